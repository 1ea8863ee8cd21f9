"""The calls that sites and the compute node make: who may, then straight to the run."""

import re
import ssl
from collections.abc import Iterator
from functools import partial

import grpc

from coordinator.key_requests import report_key_erased, report_key_stored, revoke_key, rotate_key
from coordinator.layers.layer_releases import LayerReleases
from coordinator.run import Run
from mple.audit import audit_call
from mple.node.coordinator_client import AUDIT_HEAD_KEY
from mple.node.run_events import ended
from mple.rpc import ErrorCode, MpleError, Party, Role, guarded
from mple.rpc.call import Call
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc

_HEAD = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")
_REPORTS = {
    Role.SITE: {"failure", "ledger_totals"},
    Role.COMPUTE: {
        "layers_stored",
        "epoch_done",
        "network_scored",
        "training_done",
        "failure",
        "ledger_totals",
        "key_stored",
        "key_erased",
    },
}


class CoordinatorService(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Serves one run; the caller is who its certificate says."""

    def __init__(self, run: Run, releases: LayerReleases) -> None:
        """Serve a run and its layers."""
        self.consortium = run.me.consortium
        self._run, self._releases = run, releases
        self._seen: dict[str, int] = {}

    def seen_by(self, sequence: int) -> set[str]:
        """Labels of the parties that were sent the event of this number, or are being sent it."""
        with self._run.file.changed:
            return {label for label, newest in self._seen.items() if newest >= sequence}

    @guarded(Role.SITE, Role.COMPUTE)
    def Join(
        self, request: coordinator_pb2.JoinRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.JoinResponse:
        """Announces a party and what it brings."""
        self._run.join(caller, request, _certificate_der(context))
        audit_call(caller.label, "join", "ok", run=self._run.run_id)
        _keep_head(context, caller)
        return coordinator_pb2.JoinResponse(run_id=self._run.run_id, last_sequence=self._run.log.last_sequence())

    @guarded(Role.SITE, Role.COMPUTE)
    async def Watch(self, request: coordinator_pb2.WatchRequest, context: Call, caller: Party) -> None:
        """Events for the caller after a number, then new ones; ends with the run."""
        await context.run(self._require_known, caller, request.after_sequence)
        log, woken, after = self._run.log, context.wake(), request.after_sequence
        with log.listening(caller, woken.set):
            while not log.closed:
                woken.clear()
                events = await context.run(log.read, caller, after)
                for event in events:
                    await context.write_from(partial(self._being_sent, caller, event))
                    after = event.sequence
                    if ended(event):
                        return
                if not events:
                    await woken.wait()

    @guarded(Role.COMPUTE)
    def OfferStem(
        self, request: coordinator_pb2.OfferStemRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.OfferStemResponse:
        """Takes the compute node's stem."""
        return coordinator_pb2.OfferStemResponse(digest=self._run.offer_stem(caller, request.safetensors))

    @guarded(Role.SITE, Role.COMPUTE)
    def GetStem(
        self, request: coordinator_pb2.GetStemRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.GetStemResponse:
        """Gives the plan's stem."""
        self._run.require_joined(caller)
        return coordinator_pb2.GetStemResponse(safetensors=self._run.stem_file(request.digest))

    @guarded(Role.SITE)
    def PutSealed(
        self, request: coordinator_pb2.PutSealedRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.PutSealedResponse:
        """Keeps an envelope for another party."""
        self._run.require_joined(caller)
        counts = self._run.put_sealed(caller, request)
        audit_call(caller.label, "envelope_left", "ok", recipient=request.recipient, kind=request.kind)
        return coordinator_pb2.PutSealedResponse(earlier=not counts)

    @guarded(Role.SITE)
    def GetSealed(
        self, _request: coordinator_pb2.GetSealedRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.GetSealedResponse:
        """Gives the envelopes that were left for the caller."""
        self._run.require_joined(caller)
        self._run.require_unfailed()
        envelopes = self._run.envelopes.to(caller.label)
        if envelopes:
            audit_call(caller.label, "envelopes_given", "ok", envelopes=len(envelopes))
        return coordinator_pb2.GetSealedResponse(envelopes=envelopes)

    @guarded(Role.SITE)
    def BeginLayer(
        self, request: coordinator_pb2.BeginLayerRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.BeginLayerResponse:
        """Takes note of a layer and says how much of it is here."""
        self._run.require_joined(caller)
        offset = self._releases.begin(caller, request)
        audit_call(caller.label, "layer_begun", "ok", sha256=request.header.sha256.hex(), offset=offset)
        return coordinator_pb2.BeginLayerResponse(resume_offset=offset)

    @guarded(Role.SITE)
    def UploadLayer(
        self, request: Iterator[coordinator_pb2.UploadLayerRequest], _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.UploadLayerResponse:
        """Takes a layer's bytes, reviews and releases it."""
        self._run.require_joined(caller)
        self._releases.upload(caller, request)
        return coordinator_pb2.UploadLayerResponse(released=True)

    @guarded(Role.COMPUTE)
    def DownloadLayer(
        self, request: coordinator_pb2.DownloadLayerRequest, _context: grpc.ServicerContext, caller: Party
    ) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        """Gives a released layer's bytes."""
        self._run.require_joined(caller)
        audit_call(caller.label, "layer_fetched", "ok", sha256=request.sha256.hex(), offset=request.offset)
        yield from self._releases.download(request)

    @guarded(Role.SITE, Role.COMPUTE)
    def Report(
        self, request: coordinator_pb2.ReportRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.ReportResponse:
        """Takes note of progress, results and failures."""
        kind = request.WhichOneof("report")
        if kind is None:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "a report without content")
        if kind not in _REPORTS[caller.role]:
            raise MpleError(ErrorCode.ROLE_NOT_ALLOWED, f"{caller.label} reports {kind}")
        if kind == "failure":
            self._run.report_failure(caller, request.failure)
            audit_call(caller.label, "failure_report", "ok", code=request.failure.code, text=request.failure.text)
            return coordinator_pb2.ReportResponse()
        self._run.require_joined(caller)
        _keep_head(context, caller)
        if kind == "layers_stored":
            self._run.report_layers_stored(request.layers_stored)
        elif kind == "epoch_done":
            self._run.report_epoch(request.epoch_done)
        elif kind == "network_scored":
            self._run.report_network_scored(request.network_scored)
        elif kind == "training_done":
            self._run.report_training_done(request.training_done)
            audit_call(caller.label, "training_finished", "ok", model_sha256=request.training_done.model_sha256.hex())
        elif kind == "key_stored":
            report_key_stored(self._run, request.key_stored)
        elif kind == "key_erased":
            report_key_erased(self._run, request.key_erased)
        else:
            self._run.report_totals(caller, request.ledger_totals)
        return coordinator_pb2.ReportResponse()

    @guarded(Role.SITE)
    def RotateKey(
        self, request: coordinator_pb2.RotateKeyRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.RotateKeyResponse:
        """Takes note of a site's next key."""
        self._run.require_joined(caller)
        rotate_key(self._run, caller, request)
        return coordinator_pb2.RotateKeyResponse()

    @guarded(Role.SITE)
    def RevokeKey(
        self, request: coordinator_pb2.RevokeKeyRequest, _context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.RevokeKeyResponse:
        """Withdraws a key that its site has replaced."""
        self._run.require_joined(caller)
        revoke_key(self._run, caller, request)
        return coordinator_pb2.RevokeKeyResponse()

    def _require_known(self, caller: Party, after: int) -> None:
        self._run.require_joined(caller)
        newest = self._run.log.last_sequence()
        if after > newest:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"events after number {after}; the newest is {newest}")

    def _being_sent(self, caller: Party, event: coordinator_pb2.WatchResponse) -> coordinator_pb2.WatchResponse:
        """Note it before: a party that breaks off once it has the last event does not let this go on."""
        with self._run.file.changed:
            self._seen[caller.label] = max(event.sequence, self._seen.get(caller.label, 0))
            if ended(event):
                self._run.file.changed.notify_all()
        return event


def _keep_head(context: grpc.ServicerContext, caller: Party) -> None:
    """Enter the head of the caller's own audit trail in this one, where the caller can't reach it."""
    for key, value in context.invocation_metadata() or ():
        match = _HEAD.fullmatch(value) if key == AUDIT_HEAD_KEY and isinstance(value, str) else None
        if match is not None:
            audit_call(caller.label, "audit_head", "ok", sequence=int(match[1]), sha256=match[2])


def _certificate_der(context: grpc.ServicerContext) -> bytes:
    pem = context.auth_context().get("x509_pem_cert", ())
    if len(pem) != 1:
        raise MpleError(ErrorCode.UNIDENTIFIED, "the connection shows no certificate")
    return ssl.PEM_cert_to_DER_cert(bytes(pem[0]).decode("ascii"))
