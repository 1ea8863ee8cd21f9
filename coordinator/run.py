"""A run as the coordinator keeps it: carries out what the phases decide and answers what parties ask.

State, events and whatever they rest on are written in one transaction, so that a coordinator that is started again
goes on where it was, and nobody has heard of what it forgot.
"""

import secrets
from collections.abc import Callable

from coordinator.foresight import foresee, require_room
from coordinator.key_events import tell_of_key
from coordinator.ledger_totals import keep_totals, totals_from
from coordinator.memory.envelopes import Envelopes, certificates_for_sealing, check_envelope
from coordinator.memory.event_log import EventLog
from coordinator.memory.kept_state import KeptState
from coordinator.memory.layer_store import LayerStore
from coordinator.memory.registry import (
    Registry,
    check_expected,
    check_ranks,
    check_site_profile,
    check_stem_digest,
    check_task,
    check_version,
    check_weights_digest,
)
from coordinator.memory.state_file import StateFile
from coordinator.phases import (
    AnnounceEpoch,
    AnnounceFault,
    AnnounceLayer,
    AnnounceParty,
    AnnouncePhase,
    AnnounceScores,
    ComputeJoined,
    Consequence,
    EpochReported,
    Event,
    KeySealed,
    LayersStored,
    MakePlan,
    NetworkReported,
    PartyFailed,
    Phase,
    PlanAgreed,
    RunState,
    SiteJoined,
    StemOffered,
    TrainingDone,
    step,
)
from coordinator.plan_maker import image_of, make_plan
from coordinator.site_keys import AnnounceErasure, AnnounceKey, SiteKey
from coordinator.training_reports import check_epoch, check_network
from mple.audit import audit
from mple.machine import MemoryShortError
from mple.model.stem import MOST_BYTES, Stem, StemError
from mple.node.logs import log, log_error
from mple.plan import AbsencePolicy, CoordinatorSettings, Custody, PlanError, RunPlan, changed_sections
from mple.plan.fit import check_images
from mple.printable import some_of
from mple.records.log_events import LogEvent
from mple.records.state_files import LAYERS
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import coordinator_pb2

_MOST_TEXT = 500


class Run:
    """One run, from the first party's joining to its end."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        me: Party,
        certificate_der: bytes,
        file: StateFile,
        on_phase: Callable[[str], None] = lambda _phase: None,
    ) -> None:
        """Begin a run, or go on with the one in the state file.

        Args:
            settings: The coordinator's configuration.
            me: The coordinator, by its certificate.
            certificate_der: That certificate.
            file: The run's memory.
            on_phase: Called with each phase that is entered, and at once with the present one.

        Raises ValueError: the state file is of another coordinator's run, or of one with other settings.
        """
        self.settings, self.me, self.file = settings, me, file
        self._certificate_der, self._on_phase = certificate_der, on_phase
        self.log = EventLog(file)
        self.envelopes = Envelopes(file)
        self.layers = LayerStore(file, settings.state / LAYERS)
        self.registry = Registry(file)
        self._state = KeptState(file)
        fresh = RunState(
            sites=settings.run.sites,
            escrow=settings.run.custody is Custody.ESCROW,
            stem_due=settings.model.stem_offered,
            proceed=settings.absence.policy is AbsencePolicy.PROCEED,
        )
        with file.transaction():
            if file.fact("state") is None:
                file.keep_fact("run_id", (settings.run.run_id or secrets.token_hex(6)).encode())
                file.keep_fact("coordinator", me.uri.encode())
                self._state.keep(fresh)
        self._require_same(fresh)
        on_phase(self.state().phase)

    @property
    def run_id(self) -> str:
        """Letters and digits, drawn at random for each run."""
        return (self.file.fact("run_id") or b"").decode()

    @property
    def plan(self) -> RunPlan:
        """The plan. Raises MpleError: WRONG_PHASE before there is one, RUN_FAILED when there will be none."""
        return RunPlan.from_json(self._planned("plan"))

    @property
    def stem(self) -> Stem:
        """The plan's stem. Raises MpleError: as `plan`."""
        return Stem.from_safetensors(self._planned("stem"))

    def state(self) -> RunState:
        """Where the run is."""
        return self._state.read()

    def advance(self, event: Event) -> None:
        """Take an event and carry out what follows from it, all of it or nothing.

        Raises MpleError: as `coordinator.phases.step`.
        """
        with self.file.transaction():
            state, consequences = step(self.state(), event)
            self._state.keep(state)
            for consequence in consequences:
                self._carry_out(consequence)

    def fail(self, party: str, text: str) -> None:
        """End the run as failed, unless it has ended."""
        self.advance(PartyFailed(party, text[:_MOST_TEXT]))

    def join(self, caller: Party, request: coordinator_pb2.JoinRequest, certificate_der: bytes) -> None:
        """Let a party in, for the first time or, with the same profile, again.

        Raises MpleError: PROTOCOL_VERSION, UNKNOWN_PARTY, ALREADY_JOINED, what a profile check says, or RUN_FAILED.
        """
        check_version(request.protocol_version)
        check_expected(caller, self.settings.run)
        if request.WhichOneof("party") != caller.role.value:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"{caller.label} joins as {request.WhichOneof('party')}")
        with self.file.transaction():
            if caller.role is Role.SITE:
                check_site_profile(request.site, caller, self.registry.other_site(caller.name))
                check_task(request.site, caller, self.settings.task.kind)
                self._check_images(request.site)
                if self.registry.admit(caller, request.site, certificate_der):
                    self.advance(SiteJoined(caller.name))
            else:
                check_ranks(request.compute, self.settings.training.ranks)
                check_stem_digest(request.compute, self.settings.model, self._offered_digest())
                check_weights_digest(request.compute, self.settings.model)
                if self.registry.admit(caller, request.compute, certificate_der):
                    self.advance(ComputeJoined(caller.name))

    def require_unfailed(self) -> None:
        """Refuse what a failed run has no use for. Raises MpleError: RUN_FAILED."""
        state = self.state()
        if state.phase is Phase.FAILED:
            raise MpleError(ErrorCode.RUN_FAILED, state.reason)

    def require_joined(self, caller: Party) -> None:
        """Refuse a party that has not joined. Raises MpleError: UNKNOWN_PARTY."""
        if self.registry.member(caller.label) is None:
            raise MpleError(ErrorCode.UNKNOWN_PARTY, f"{caller.label} has not joined; join first")

    def offer_stem(self, caller: Party, safetensors: bytes) -> bytes:
        """Keep the compute node's stem and return its digest; the same again is allowed.

        Raises MpleError: UNKNOWN_PARTY, STEM_REJECTED.
        """
        check_expected(caller, self.settings.run)
        if not self.settings.model.stem_offered:
            raise MpleError(
                ErrorCode.STEM_REJECTED,
                "the run has a stem without an offer",
                fix='set model.stem = "offered" for a stem_file or model.weights for a weights_file, or offer none',
            )
        if len(safetensors) > MOST_BYTES:
            raise MpleError(ErrorCode.STEM_REJECTED, f"stem file of {len(safetensors)} bytes; allowed are {MOST_BYTES}")
        try:
            stem = Stem.from_safetensors(safetensors)
        except StemError as fault:
            raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
        with self.file.transaction():
            before = self._offered_digest()
            if before is not None and before != stem.digest():
                raise MpleError(ErrorCode.STEM_REJECTED, f"stem {before.hex()[:16]} was offered before this one")
            if before is None:
                self.file.keep_fact("offered_stem", stem.to_safetensors())
                self.advance(StemOffered())
        return stem.digest()

    def stem_file(self, digest: bytes) -> bytes:
        """The plan's stem as safetensors, for whoever knows its digest from the plan.

        Raises MpleError: STEM_REJECTED for another digest.
        """
        stem = self.stem
        if digest != stem.digest():
            raise MpleError(ErrorCode.STEM_REJECTED, f"the plan's stem is {stem.digest().hex()[:16]}")
        return stem.to_safetensors()

    def put_sealed(self, caller: Party, request: coordinator_pb2.PutSealedRequest) -> bool:
        """Keep an envelope that the plan has room for; False when another was left before, which then stays.

        Raises MpleError: ENVELOPE_REJECTED, WRONG_PHASE, RUN_FAILED.
        """
        self.require_unfailed()
        check_envelope(self.plan, caller, self.me.label, request)
        with self.file.transaction():
            new = self.leave_envelope(caller.label, request.recipient, request.kind, request.envelope)
            if new and request.kind == coordinator_pb2.SEALED_KIND_MORPH_KEY:
                self.advance(KeySealed(caller.name))
        return new or self.envelopes.counts(caller.label, request.recipient, request.kind, request.envelope)

    def leave_envelope(self, sender: str, recipient: str, kind: int, envelope: bytes) -> bool:
        """Keep an envelope and tell its recipient, a site; False when another was left before, which then stays."""
        with self.file.transaction():
            new = self.envelopes.put(sender, recipient, kind, envelope)
            if new and recipient != self.me.label:
                left = coordinator_pb2.EnvelopeLeft(recipient=recipient)
                self.log.append(coordinator_pb2.WatchResponse(envelope_left=left))
            return new

    def report_failure(self, caller: Party, failure: coordinator_pb2.Failure) -> None:
        """A party of the run can't go on."""
        check_expected(caller, self.settings.run)
        self.fail(caller.label, failure.text or failure.code)

    def report_layers_stored(self, report: coordinator_pb2.LayersStored) -> None:
        """The compute node holds all layers. Raises MpleError: PLAN_HASH_MISMATCH, WRONG_PHASE."""
        if report.plan_sha256 != self.plan.sha256():
            raise MpleError(
                ErrorCode.PLAN_HASH_MISMATCH,
                f"the compute node follows {report.plan_sha256.hex()[:16]}, the run {self.plan.sha256().hex()[:16]}",
            )
        self.advance(LayersStored())

    def report_epoch(self, done: coordinator_pb2.EpochDone) -> None:
        """The compute node has finished an epoch; one that was reported before is not announced again.

        Raises MpleError: MESSAGE_MALFORMED for figures that can't be, WRONG_PHASE.
        """
        check_epoch(done, self.plan.training.epochs)
        with self.file.transaction():
            if done.epoch > int(self.file.fact("epochs_done") or b"0"):
                self.advance(EpochReported(done.epoch, done.loss, dict(done.scores), done.seconds))
                self.file.keep_fact("epochs_done", str(done.epoch).encode())

    def report_network_scored(self, scored: coordinator_pb2.NetworkScored) -> None:
        """The network that is kept has been scored; once this was reported it is not announced again.

        Raises MpleError: MESSAGE_MALFORMED for scores that can't be, WRONG_PHASE.
        """
        check_network(scored, self.plan)
        with self.file.transaction():
            if self.file.fact("network_scored") is None:
                self.advance(NetworkReported(scored.SerializeToString(deterministic=True)))
                self.file.keep_fact("network_scored", b"1")

    def report_training_done(self, done: coordinator_pb2.TrainingDone) -> None:
        """The network is trained; the first digest that is reported stays.

        Raises MpleError: MESSAGE_MALFORMED for no digest or another one than before, WRONG_PHASE.
        """
        digest = done.model_sha256
        if len(digest) != 32:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"model digest of {len(digest)} bytes instead of 32")
        with self.file.transaction():
            self.advance(TrainingDone())
            before = self.file.fact("model_sha256") or digest
            if before != digest:
                raise MpleError(
                    ErrorCode.MESSAGE_MALFORMED, f"model {digest.hex()[:16]}; reported before was {before.hex()[:16]}"
                )
            self.file.keep_fact("model_sha256", digest)

    def report_totals(self, caller: Party, totals: coordinator_pb2.LedgerTotals) -> None:
        """A process's own sums over its ledger; so it also says that it knows of the run's end. See `keep_totals`."""
        keep_totals(self.file, caller, totals, self.settings.training.ranks)

    def totals_from(self) -> set[str]:
        """As `coordinator.ledger_totals.totals_from`."""
        return totals_from(self.file)

    def _planned(self, name: str) -> bytes:
        text = self.file.fact(name)
        if text is None:
            self.require_unfailed()
            raise MpleError(ErrorCode.WRONG_PHASE, f"there is no {name} yet: not all parties have joined")
        return text

    def _require_same(self, fresh: RunState) -> None:
        """Refuse to go on under a configuration that the run was not begun, or planned, with."""
        state, settings, text = self.state(), self.settings, self.file.fact("plan")
        same = {
            "coordinator": self.file.fact("coordinator") == self.me.uri.encode(),
            "run.run_id": settings.run.run_id in ("", self.run_id),
            "run.sites": state.sites == fresh.sites,
            "run.custody": state.escrow == fresh.escrow,
            "model.stem": state.stem_due == fresh.stem_due,
        }
        if text is not None:
            plan = RunPlan.from_json(text)
            same["run.compute"] = plan.compute == settings.run.compute
            same |= dict.fromkeys(changed_sections(plan, settings), False)
        changed = [name for name, equal in same.items() if not equal]
        if changed:
            raise ValueError(
                f"{settings.state} holds run {self.run_id} of the sites {some_of(state.sites)}, begun with another "
                f"{', '.join(changed)}; restore the configuration, or name another state folder for a new run"
            )

    def _check_images(self, profile: coordinator_pb2.SiteProfile) -> None:
        try:
            check_images(image_of(profile), self.settings)
            require_room(profile, self.settings)
        except (PlanError, MemoryShortError) as fault:
            raise MpleError(ErrorCode.IMAGES_UNFIT, str(fault)) from None

    def _offered_digest(self) -> bytes | None:
        kept = self.file.fact("offered_stem")
        return None if kept is None else Stem.from_safetensors(kept).digest()

    def _carry_out(self, consequence: Consequence) -> None:
        match consequence:
            case AnnounceParty(party):
                self.log.append(coordinator_pb2.WatchResponse(party_joined=coordinator_pb2.PartyJoined(party=party)))
                log(LogEvent.PARTY_JOINED, f"{party} has joined", party=party)
            case AnnouncePhase(phase, reason):
                changed = coordinator_pb2.PhaseChanged(phase=f"PHASE_{phase.upper()}", reason=reason)
                self.log.append(coordinator_pb2.WatchResponse(phase_changed=changed))
                audit("local", "phase", "ok", phase=phase, reason=reason or "as planned")
                log(LogEvent.PHASE, f"the run is {phase}: {reason}".rstrip(": "), phase=phase)
                self._on_phase(phase)
            case AnnounceLayer(site):
                stored = self.layers.of_key(site, self.plan.site(site).key_epoch)
                assert stored is not None, site
                released = coordinator_pb2.LayerReleased(header=stored.header)
                self.log.append(coordinator_pb2.WatchResponse(layer_released=released))
                audit(f"site/{site}", "layer_released", "ok", sha256=stored.header.sha256.hex())
                log(LogEvent.LAYER_RELEASED, f"released the layer of site {site}", site=site)
            case AnnounceEpoch(report):
                done = coordinator_pb2.EpochDone(
                    epoch=report.epoch, loss=report.loss, scores=report.scores, seconds=report.seconds
                )
                self.log.append(coordinator_pb2.WatchResponse(epoch_done=done))
            case AnnounceScores(message):
                scored = coordinator_pb2.NetworkScored.FromString(message)
                self.log.append(coordinator_pb2.WatchResponse(network_scored=scored))
            case AnnounceFault(party, text):
                self.log.append(coordinator_pb2.WatchResponse(fault=coordinator_pb2.Fault(party=party, text=text)))
                log_error(LogEvent.PARTY_FAILED, f"{party}: {text}", party=party)
            case AnnounceKey() | AnnounceErasure():
                tell_of_key(consequence, self.log, self.layers, f"compute/{self.settings.run.compute}")
            case MakePlan():
                self._make_plan()

    def _make_plan(self) -> None:
        offered, compute = self.file.fact("offered_stem"), self.registry.compute_profile(self.settings.run.compute)
        try:
            check_ranks(compute, self.settings.training.ranks)  # the settings may have changed since it joined
            plan, stem = make_plan(
                self.settings,
                self.registry.site_profiles(),
                consortium=self.me.consortium,
                run_id=self.run_id,
                offered=None if offered is None else Stem.from_safetensors(offered),
                weights_digest=compute.weights_digest,
            )
            foresee(plan)
        except (MpleError, PlanError, MemoryShortError) as fault:
            self.fail(self.me.label, f"no plan can be made: {fault}")
            return
        self.file.keep_fact("plan", plan.to_json())
        self.file.keep_fact("stem", stem.to_safetensors())
        held = {self.me.label: self._certificate_der, **self.registry.site_certificates()}
        for certificates in certificates_for_sealing(plan, self.me.label, held):
            self.log.append(coordinator_pb2.WatchResponse(certificates=certificates))
        made = coordinator_pb2.PlanMade(plan_json=plan.to_json(), plan_sha256=plan.sha256())
        self.log.append(coordinator_pb2.WatchResponse(plan_made=made))
        audit("local", "plan", "ok", run=self.run_id, sha256=plan.sha256().hex())
        log(LogEvent.PLAN, f"plan {plan.sha256().hex()[:16]} of {len(plan.sites)} sites")
        keys = tuple(SiteKey(one.name, one.key_epoch, one.key_fingerprint) for one in plan.sites)
        self.advance(PlanAgreed(keys))
