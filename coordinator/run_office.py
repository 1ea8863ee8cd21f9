"""A run as the coordinator keeps it: phases, plan, envelopes, layers, under one lock, all in the store.

Every change is written before it is announced, so that a coordinator that is started again goes on where it was.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from coordinator.layer_review import check_size, review
from coordinator.layer_store import LayerStore
from coordinator.phases import (
    Event,
    Failed,
    Joined,
    LayerReleased,
    LayersStored,
    Phase,
    PhaseError,
    RunState,
    TrainingDone,
    advance,
)
from coordinator.plan_maker import make_plan
from coordinator.registry import check_join
from coordinator.store import RunStore
from mple.model import Stem, StemError
from mple.morph import MorphKey, build_augmented_layer
from mple.node.logs import log
from mple.pki import open_sealed, seal
from mple.plan import CoordinatorSettings, Custody, RunPlan
from mple.plan.orders import channel_order, seal_info
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.rpc.tls import party_of_certificate
from mple.v1 import coordinator_pb2
from mple.wire import write_layer
from mple.wire.layer_file import file_sha256

_LOGGER = logging.getLogger("mple.coordinator")
MOST_ENVELOPE_BYTES = 4096
_PHASES = {
    Phase.GATHERING: coordinator_pb2.PHASE_GATHERING,
    Phase.SETUP: coordinator_pb2.PHASE_SETUP,
    Phase.TRAINING: coordinator_pb2.PHASE_TRAINING,
    Phase.FINISHED: coordinator_pb2.PHASE_FINISHED,
    Phase.FAILED: coordinator_pb2.PHASE_FAILED,
}


class RunOffice:
    """One run."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        me: Party,
        store: RunStore,
        layers: LayerStore,
        private_key: Path,
        *,
        on_phase: Callable[[str], None] = lambda _phase: None,
    ) -> None:
        self._settings, self._me, self._store, self._layers = settings, me, store, layers
        self._private_key, self._on_phase = private_key, on_phase
        self._lock = threading.RLock()
        self.ended = threading.Event()
        self._building: threading.Thread | None = None
        kept = store.fact("run_id")
        self.run_id = kept.decode() if kept else secrets.token_hex(6)
        store.keep_fact("run_id", self.run_id.encode())
        plan_json = store.fact("plan")
        self._plan = RunPlan.from_json(plan_json) if plan_json else None
        self._stem = self._stored_stem()
        self.state = self._restored()
        on_phase(self.state.phase)
        if self.state.ended:
            self.ended.set()
        self._build_if_due()

    @property
    def plan(self) -> RunPlan:
        """The plan.

        Raises:
            MpleError: WRONG_PHASE before there is one.
        """
        if self._plan is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "there is no plan yet: not all parties have joined")
        return self._plan

    def join(self, request: coordinator_pb2.JoinRequest, party: Party, certificate_der: bytes) -> None:
        """Let a party in, for the first time or again."""
        with self._lock:
            joined = self._store.parties()
            check_join(request, party, self._settings, joined)
            state = self._after(Joined(party.label))
            if party.label not in joined:
                self._store.keep_party(party.label, request, certificate_der)
                self._announce(party_joined=coordinator_pb2.PartyJoined(party=party.label))
            if state.phase is Phase.SETUP and self._plan is None:
                self._make_plan()
            self._enter(state)

    def offer_stem(self, safetensors: bytes) -> bytes:
        """Keep an offered stem and return its digest."""
        try:
            stem = Stem.from_safetensors(safetensors)
        except StemError as fault:
            raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
        with self._lock:
            if self._plan is not None and stem.digest().hex() != self._plan.stem_digest:
                raise MpleError(ErrorCode.STEM_REJECTED, "the plan is made with another stem")
            self._store.keep_fact("offered_stem", stem.to_safetensors())
        return stem.digest()

    def stem_file(self, digest: bytes) -> bytes:
        """The plan's stem, for whoever knows its digest from the plan."""
        if digest.hex() != self.plan.stem_digest or self._stem is None:
            raise MpleError(ErrorCode.STEM_REJECTED, "the plan has another stem")
        return self._stem.to_safetensors()

    def put_envelope(self, sender: Party, recipient: str, kind: int, envelope: bytes) -> None:
        """Relay an envelope that the custody mode has room for."""
        plan = self.plan
        if plan.custody is Custody.ESCROW:
            allowed = kind == coordinator_pb2.SEALED_KIND_MORPH_KEY and recipient == self._me.label
        else:
            others = {f"site/{site.name}" for site in plan.sites[1:]}
            first = f"site/{plan.sites[0].name}"
            allowed = (
                kind == coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET and sender.label == first and recipient in others
            )
        if not allowed or not 0 < len(envelope) <= MOST_ENVELOPE_BYTES:
            raise MpleError(
                ErrorCode.ENVELOPE_REJECTED,
                f"{sender.label} to {recipient}, kind {kind}, {len(envelope)} bytes, in {plan.custody} custody",
            )
        with self._lock:
            self._store.keep_envelope(sender.label, recipient, kind, envelope)
            self._build_if_due()

    def envelopes(self, recipient: Party) -> list[tuple[str, int, bytes]]:
        """What was left for a party."""
        return self._store.envelopes_for(recipient.label)

    def begin_layer(self, header: coordinator_pb2.LayerHeader, plan_sha256: bytes, site: Party) -> int:
        """Check an announced layer and say where to go on."""
        plan = self.plan
        if plan_sha256 != plan.sha256():
            raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, f"the plan is {plan.sha256().hex()[:16]}")
        part = plan.site(site.name)
        ref = header.key_ref
        if (ref.site, ref.epoch, ref.fingerprint.hex()) != (part.name, part.key_epoch, part.key_fingerprint):
            raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"{site.label} announces a layer of {ref.site}:{ref.epoch}")
        if plan.custody is not Custody.SITE or len(header.sha256) != 32:
            raise MpleError(ErrorCode.LAYER_REJECTED, f"custody is {plan.custody}; a digest has 32 bytes")
        check_size(plan, header.total_bytes)
        self._store.keep_fact(f"header/{site.name}/{header.sha256.hex()}", header.SerializeToString())
        return self._layers.resume_offset(header)

    def receive_layer(self, chunks: Iterator[coordinator_pb2.UploadLayerRequest], site: Party) -> None:
        """Take in a layer that was announced, review it and release it."""
        first = next(chunks, None)
        kept = self._store.fact(f"header/{site.name}/{first.sha256.hex()}") if first is not None else None
        if first is None or kept is None:
            raise MpleError(ErrorCode.LAYER_REJECTED, f"{site.label} did not announce this layer")
        header = coordinator_pb2.LayerHeader.FromString(kept)
        path = self._layers.receive(header, _again(first, chunks))
        self._release(header, path)

    def send_layer(self, sha256: bytes, offset: int) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        """A released layer's bytes."""
        if sha256 not in {header.sha256 for header, _ in self._store.layers().values()}:
            raise MpleError(ErrorCode.LAYER_REJECTED, "no such layer has been released")
        yield from self._layers.send(sha256, offset)

    def layers_stored(self, plan_sha256: bytes) -> None:
        """The compute node holds all layers."""
        if plan_sha256 != self.plan.sha256():
            raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, f"the plan is {self.plan.sha256().hex()[:16]}")
        self._go(LayersStored())

    def epoch_done(self, done: coordinator_pb2.EpochDone) -> None:
        """Announce an epoch's results."""
        if self.state.phase is not Phase.TRAINING:
            raise MpleError(ErrorCode.WRONG_PHASE, f"an epoch is done, but the run is {self.state.phase}")
        self._announce(epoch_done=done)

    def training_done(self, model_sha256: bytes) -> None:
        """The network is trained."""
        self._store.keep_fact("model_sha256", model_sha256)
        self._go(TrainingDone())

    def fail(self, party: str, text: str) -> None:
        """A party, or this one, can't go on."""
        log(_LOGGER, logging.ERROR, "party_failed", f"{party}: {text}", party=party)
        self._announce(fault=coordinator_pb2.Fault(party=party, text=text))
        self._go(Failed(f"{party}: {text}"))

    def _go(self, event: Event) -> None:
        with self._lock:
            self._enter(self._after(event))

    def _after(self, event: Event) -> RunState:
        try:
            return advance(self.state, event)
        except PhaseError as fault:
            raise MpleError(ErrorCode.WRONG_PHASE, str(fault)) from None

    def _enter(self, state: RunState) -> None:
        before, self.state = self.state.phase, state
        if state.phase is before:
            return
        self._store.keep_fact("phase", state.phase.encode())
        self._store.keep_fact("reason", state.reason.encode())
        self._on_phase(state.phase)
        self._announce(phase_changed=coordinator_pb2.PhaseChanged(phase=_PHASES[state.phase], reason=state.reason))
        log(_LOGGER, logging.INFO, "phase", f"the run is {state.phase} {state.reason}".rstrip(), phase=state.phase)
        if state.ended:
            self.ended.set()

    def _announce(self, **event: object) -> None:
        self._store.append_event(coordinator_pb2.WatchResponse(**event))  # type: ignore[arg-type]

    def _make_plan(self) -> None:
        profiles = {
            label.removeprefix("site/"): request.site
            for label, request in self._store.parties().items()
            if request.HasField("site")
        }
        offered = self._store.fact("offered_stem")
        try:
            plan, stem = make_plan(
                self._settings,
                self._me.consortium,
                self.run_id,
                profiles,
                Stem.from_safetensors(offered) if offered else None,
            )
        except (MpleError, ValueError) as fault:
            self.fail(self._me.label, f"no plan can be made: {fault}")
            raise fault if isinstance(fault, MpleError) else MpleError(ErrorCode.RUN_FAILED, str(fault)) from None
        self._plan, self._stem = plan, stem
        self._store.keep_fact("stem", stem.to_safetensors())
        self._store.keep_fact("plan", plan.to_json())
        own = self._store.fact("own_certificate")
        certificates = [*self._store.certificates(), *([own] if own else [])]
        made = coordinator_pb2.PlanMade(
            plan_json=plan.to_json(), plan_sha256=plan.sha256(), certificates_der=certificates
        )
        self._announce(plan_made=made)
        log(_LOGGER, logging.INFO, "plan", f"plan {plan.sha256().hex()[:16]} of {len(plan.sites)} sites")

    def _release(self, header: coordinator_pb2.LayerHeader, path: Path) -> None:
        site = header.key_ref.site
        plan = self.plan
        if self._stem is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "a layer came before there was a stem")
        with self._lock:
            released = self._store.layers()
            if site in released and released[site][0] == header:
                return
            responses = {name: kept for name, (_, kept) in released.items() if name != site and kept}
            try:
                response = review(path, site, plan, self._stem, responses)
            except MpleError:
                self._layers.discard(header.sha256)
                raise
            state = self._after(LayerReleased(site))
            self._store.keep_layer(site, header, response)
            self._announce(layer_released=coordinator_pb2.LayerReleased(header=header))
            self._enter(state)
            log(_LOGGER, logging.INFO, "layer_released", f"released the layer of {site}", site=site)

    def _build_if_due(self) -> None:
        """In escrow: once every key is here, build the layers that are not released yet, in a thread of its own."""
        plan = self._plan
        if plan is None or plan.custody is not Custody.ESCROW or self.state.phase is not Phase.SETUP:
            return
        senders = {sender for sender, _, _ in self._store.envelopes_for(self._me.label)}
        if self._building is None and senders == {f"site/{site.name}" for site in plan.sites}:
            self._building = threading.Thread(target=self._build, args=(plan,), name="escrow", daemon=True)
            self._building.start()

    def _build(self, plan: RunPlan) -> None:
        try:
            self._build_layers(plan)
        except Exception as fault:
            _LOGGER.error("building layers failed", exc_info=True)
            self.fail(self._me.label, f"building layers failed: {fault}")

    def _build_layers(self, plan: RunPlan) -> None:
        if self._stem is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "no stem")
        secret = self._store.fact("consortium_secret") or secrets.token_bytes(32)
        self._store.keep_fact("consortium_secret", secret)
        certificates = {
            party_of_certificate_der(der).label: der for der in self._store.certificates()
        }
        kind = coordinator_pb2.SEALED_KIND_MORPH_KEY
        for sender, _, envelope in self._store.envelopes_for(self._me.label):
            part = plan.site(sender.removeprefix("site/"))
            info = seal_info(plan.run_id, sender, self._me.label, kind)
            key = MorphKey(open_sealed(self._private_key, envelope, info))
            if key.fingerprint().hex() != part.key_fingerprint:
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"the key of {sender} is not the one it joined with")
            if part.name not in self._store.layers():
                self._build_layer(plan, self._stem, part.name, key, secret)
            shared = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
            info = seal_info(plan.run_id, self._me.label, sender, shared)
            self._store.keep_envelope(self._me.label, sender, shared, seal(certificates[sender], secret, info))

    def _build_layer(self, plan: RunPlan, stem: Stem, site: str, key: MorphKey, secret: bytes) -> None:
        part = plan.site(site)
        layer = build_augmented_layer(
            plan.morph.scheme(),
            plan.image,
            torch.as_tensor(stem.kernels_FCpp),
            key,
            channel_order(secret, plan.filters),
            session=plan.session,
            key_epoch=part.key_epoch,
        )
        temporary = self._layers.path(b"\0" * 32).with_name(f"building-{site}.safetensors")
        write_layer(layer, temporary)
        digest = file_sha256(temporary)
        path = self._layers.path(digest)
        temporary.replace(path)
        header = coordinator_pb2.LayerHeader(total_bytes=path.stat().st_size, sha256=digest)
        header.key_ref.site, header.key_ref.epoch = site, part.key_epoch
        header.key_ref.fingerprint = bytes.fromhex(part.key_fingerprint)
        self._release(header, path)

    def _stored_stem(self) -> Stem | None:
        kept = self._store.fact("stem")
        return Stem.from_safetensors(kept) if kept else None

    def _restored(self) -> RunState:
        sites = frozenset(self._settings.run.sites)
        compute = Party(self._me.consortium, Role.COMPUTE, self._settings.run.compute)
        phase = self._store.fact("phase")
        return RunState(
            expected=frozenset({f"site/{name}" for name in sites} | {compute.label}),
            sites=sites,
            phase=Phase(phase.decode()) if phase else Phase.GATHERING,
            joined=frozenset(self._store.parties()),
            released=frozenset(self._store.layers()),
            reason=(self._store.fact("reason") or b"").decode(),
        )


def party_of_certificate_der(der: bytes) -> Party:
    """Who a DER certificate is of."""
    from cryptography import x509

    return party_of_certificate(x509.load_der_x509_certificate(der))


def _again(
    first: coordinator_pb2.UploadLayerRequest, rest: Iterator[coordinator_pb2.UploadLayerRequest]
) -> Iterator[coordinator_pb2.UploadLayerRequest]:
    yield first
    yield from rest
