"""The coordinator's RPCs. Thin: who may call what is said here, all else is the run office's."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.run_office import RunOffice
from coordinator.store import RunStore
from mple.rpc import ErrorCode, MpleError, Party, Role, guarded
from mple.v1 import coordinator_pb2 as pb
from mple.v1 import coordinator_pb2_grpc


class CoordinatorService(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Serves sites and the compute node."""

    def __init__(self, office: RunOffice, store: RunStore, consortium: str) -> None:
        self._office, self._store = office, store
        self.consortium = consortium

    @guarded(Role.SITE, Role.COMPUTE)
    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext, peer: Party) -> pb.JoinResponse:
        """Let a party in."""
        pem = context.auth_context()["x509_pem_cert"][0]
        self._office.join(request, peer, x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
        return pb.JoinResponse(run_id=self._office.run_id, last_sequence=self._store.last_sequence())

    @guarded(Role.SITE, Role.COMPUTE)
    def Watch(
        self, request: pb.WatchRequest, context: grpc.ServicerContext, peer: Party
    ) -> Iterator[pb.WatchResponse]:
        """All events after a sequence number, then new ones."""
        yield from self._store.events_after(request.after_sequence, context.is_active)

    @guarded(Role.COMPUTE)
    def OfferStem(
        self, request: pb.OfferStemRequest, context: grpc.ServicerContext, peer: Party
    ) -> pb.OfferStemResponse:
        """Keep a stem for the plan."""
        return pb.OfferStemResponse(digest=self._office.offer_stem(request.safetensors))

    @guarded(Role.SITE, Role.COMPUTE)
    def GetStem(self, request: pb.GetStemRequest, context: grpc.ServicerContext, peer: Party) -> pb.GetStemResponse:
        """Hand out the plan's stem."""
        return pb.GetStemResponse(safetensors=self._office.stem_file(request.digest))

    @guarded(Role.SITE)
    def PutSealed(
        self, request: pb.PutSealedRequest, context: grpc.ServicerContext, peer: Party
    ) -> pb.PutSealedResponse:
        """Relay an envelope."""
        self._office.put_envelope(peer, request.recipient, request.kind, request.envelope)
        return pb.PutSealedResponse()

    @guarded(Role.SITE)
    def GetSealed(
        self, request: pb.GetSealedRequest, context: grpc.ServicerContext, peer: Party
    ) -> pb.GetSealedResponse:
        """Hand out the caller's envelopes."""
        return pb.GetSealedResponse(
            envelopes=[
                pb.SealedEnvelope(sender=sender, kind=pb.SealedKind.Name(kind), envelope=envelope)
                for sender, kind, envelope in self._office.envelopes(peer)
            ]
        )

    @guarded(Role.SITE)
    def BeginLayer(
        self, request: pb.BeginLayerRequest, context: grpc.ServicerContext, peer: Party
    ) -> pb.BeginLayerResponse:
        """Say how much of an announced layer is here."""
        offset = self._office.begin_layer(request.header, request.plan_sha256, peer)
        return pb.BeginLayerResponse(resume_offset=offset)

    @guarded(Role.SITE)
    def UploadLayer(
        self, request_iterator: Iterator[pb.UploadLayerRequest], context: grpc.ServicerContext, peer: Party
    ) -> pb.UploadLayerResponse:
        """Take in a layer."""
        self._office.receive_layer(request_iterator, peer)
        return pb.UploadLayerResponse(released=True)

    @guarded(Role.COMPUTE)
    def DownloadLayer(
        self, request: pb.DownloadLayerRequest, context: grpc.ServicerContext, peer: Party
    ) -> Iterator[pb.DownloadLayerResponse]:
        """Hand out a released layer."""
        yield from self._office.send_layer(request.sha256, request.offset)

    @guarded(Role.SITE, Role.COMPUTE)
    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext, peer: Party) -> pb.ReportResponse:
        """Take in what a party reports; progress counts from the compute node only."""
        kind = request.WhichOneof("report")
        if kind == "failure":
            self._office.fail(peer.label, request.failure.text)
        elif kind == "ledger_totals":
            pass  # in the ledger by being received; nothing follows from it
        elif peer.role is not Role.COMPUTE:
            raise MpleError(ErrorCode.ROLE_NOT_ALLOWED, f"{peer.label} reports {kind}")
        elif kind == "layers_stored":
            self._office.layers_stored(request.layers_stored.plan_sha256)
        elif kind == "epoch_done":
            self._office.epoch_done(request.epoch_done)
        elif kind == "training_done":
            self._office.training_done(request.training_done.model_sha256)
        else:
            raise MpleError(ErrorCode.BATCH_MALFORMED, "an empty report")
        return pb.ReportResponse()
