"""The compute node's way through a run: serve, join, hold the layers, train, answer predictions."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence

import torch
from prometheus_client import CollectorRegistry
from torch import nn

from compute_node.feeding.intake import Intake
from compute_node.feeding.sample_cache import SampleCache
from compute_node.key_changes import KEY_EVENTS, KeyChanges
from compute_node.layers.layer_bank import LayerBank
from compute_node.layers.layer_fetch import fetch_layer
from compute_node.layers.restore import restored_bank
from compute_node.predictor import Predictor, RestoredRun, restored_run
from compute_node.service import ComputeService
from compute_node.training.checkpoint import CheckpointFolder
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.tensorboard_events import FOLDER as TENSORBOARD
from compute_node.training.training_metrics import SampleMetrics, TrainingMetrics
from compute_node.training.training_run import CheckpointRule, TrainingRun
from mple import __version__
from mple.audit import audit, open_audit
from mple.disk.locks import claim
from mple.disk.storage_faults import noted_storage_fault, storage_fault_of
from mple.disk.whole_files import write_whole
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.model.metrics import scores_text
from mple.model.stem import Stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk, load_trunk, save_trunk, state_sha256
from mple.node import run_node
from mple.node.certificate_age import watch_certificate
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, open_log
from mple.node.monitoring import monitored
from mple.node.retry import RetryPolicy, StoppedError, UnreachableError
from mple.node.run_events import ended, phase_name, read_plan
from mple.node.stop import Stop
from mple.plan import ComputeSettings, GlobalSampler, RunPlan
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.records.cache_records import CacheShape
from mple.records.layer_list import list_layers
from mple.records.log_events import LogEvent
from mple.records.training import EpochMetrics, read_outcome, write_outcome
from mple.rpc import (
    ErrorCode,
    MpleError,
    Role,
    TlsFiles,
    build_server,
    open_channel,
    own_party,
    verify_remote,
)
from mple.rpc.node_service import add_node_service
from mple.v1 import compute_pb2_grpc, coordinator_pb2
from mple.wire.codecs import codec_named

_LOGGER = logging.getLogger("mple.compute")
_GRACE_S = 10.0
_MOST_SITES = 256


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-compute`."""
    return run_node("mple-compute", "serve", ComputeSettings, serve, argv)


def serve(settings: ComputeSettings, stop: Stop) -> ExitCode:
    """Serve sites and train one run, alone in its state folder.

    Raises:
        ValueError: Configuration, certificates or a busy port.
        MpleError: The run failed.
        UnreachableError: The coordinator could not be reached.
    """
    with claim(settings.state, "mple-compute"):
        return _serve(settings, stop)


def _serve(settings: ComputeSettings, stop: Stop) -> ExitCode:
    torch.set_num_threads(1)  # only the trainer has more: see `_train`
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.COMPUTE)
    open_log(settings.state, me.name)
    watch_certificate(tls, stop)
    open_audit(settings.state, me.label)
    audit("local", "node_start", "ok", verb="serve", version=__version__)
    with (
        Ledger(settings.state / "ledger.sqlite", me.label) as ledger,
        monitored(settings.monitoring, me, tls, ledger) as registry,
    ):
        service = ComputeService(me.consortium)
        built = build_server(settings.listen, tls, ledger, streams=_MOST_SITES)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, built.server)
        add_node_service(built.server, me)
        kept = _answer_for_restored_run(settings, ledger, service) if settings.stay else None
        built.start()
        log(_LOGGER, logging.INFO, "listening", f"listening on {built.address}")
        retry = RetryPolicy.to(settings.coordinator, tls, stop, settings.idle_timeout_s)
        try:
            try:
                coordinator = retry.call(lambda: verify_remote(settings.coordinator, tls, Role.COORDINATOR))
            except UnreachableError as fault:
                if kept is None:
                    raise
                text = f"{fault}; answering predictions of run {kept.plan.run_id} until stopped"
                log(_LOGGER, logging.WARNING, "staying", text)
                stop.wait()
                return ExitCode.INTERRUPTED
            with open_channel(settings.coordinator, tls, coordinator, ledger) as channel:
                client = CoordinatorClient(channel, retry)
                ledger.set_phase("")
                return _Compute(settings, ledger, client, service, registry, stop).take_part()
        except StoppedError:
            return ExitCode.INTERRUPTED
        finally:
            built.stop(grace_s=_GRACE_S)


def _answer_for_restored_run(settings: ComputeSettings, ledger: Ledger, service: ComputeService) -> RestoredRun | None:
    """Answer predictions by the last run's network before, and also without, a word from the coordinator."""
    try:
        kept = restored_run(settings.state)
    except ValueError as fault:
        log(_LOGGER, logging.WARNING, "not_kept", f"no predictions by the last run's network: {fault}")
        return None
    if kept is not None:
        ledger.set_run(kept.plan.run_id)
        ledger.set_phase("predict")
        service.open_predictions(kept.plan, kept.predictor)
        log(_LOGGER, logging.INFO, "restored_run", f"answering predictions of run {kept.plan.run_id}")
    return kept


class _Compute:
    def __init__(
        self,
        settings: ComputeSettings,
        ledger: Ledger,
        client: CoordinatorClient,
        service: ComputeService,
        registry: CollectorRegistry,
        stop: Stop,
    ) -> None:
        self._settings, self._ledger, self._client, self._service = settings, ledger, client, service
        self._registry, self._stop = registry, stop
        self._news: queue.Queue[coordinator_pb2.WatchResponse | Exception] = queue.Queue()
        self._plan: RunPlan | None = None
        self._bank: LayerBank | None = None
        self._layers: dict[str, bytes] = {}
        self._intake: Intake | None = None
        self._training: threading.Thread | None = None

    def take_part(self) -> ExitCode:
        run_id = self._client.join(self._join_request())
        self._ledger.set_run(run_id)
        audit("local", "join", "ok", run=run_id)
        log(_LOGGER, logging.INFO, "joined", f"joined run {run_id}")
        threading.Thread(target=self._follow, name="events", daemon=True).start()
        while not self._stop.is_set():
            try:
                news = self._news.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                if isinstance(news, Exception):
                    raise news
                self._on_event(news)
            except StoppedError:
                break
            except Exception as fault:
                self._abandon(fault)
                raise
            if ended(news):
                return self._end(news)
        self._abandon(noted_storage_fault() or StoppedError())
        return ExitCode.INTERRUPTED

    def _join_request(self) -> coordinator_pb2.JoinRequest:
        profile = coordinator_pb2.ComputeProfile()
        if self._settings.stem_file is not None:
            stem = Stem.from_safetensors(self._settings.stem_file)
            offer = coordinator_pb2.OfferStemRequest(safetensors=stem.to_safetensors())
            profile.stem_digest = self._client.retry.call(
                lambda: self._client.stub.OfferStem(offer, timeout=30.0)
            ).digest
        return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, compute=profile)

    def _follow(self) -> None:
        try:
            for event in self._client.events():
                self._news.put(event)
        except Exception as fault:
            self._news.put(fault)

    def _on_event(self, event: coordinator_pb2.WatchResponse) -> None:
        kind = event.WhichOneof("event")
        if kind == "plan_made":
            self._plan = read_plan(event.plan_made)
            write_whole(self._settings.state / "plan.json", self._plan.to_json())
            self._bank = restored_bank(self._settings.state / "layers", self._plan)
            audit("local", "plan", "ok", run=self._plan.run_id, sha256=self._plan.sha256().hex())
            log(_LOGGER, logging.INFO, LogEvent.PLAN, f"follows plan {self._plan.sha256().hex()[:16]}")
        elif kind == "layer_released":
            self._hold_layer(event.layer_released.header)
        elif kind in KEY_EVENTS:
            self._key_changes().take(event)
        elif kind == "fault" and self._intake is not None:
            self._intake.leave(event.fault.party.removeprefix("site/"))
        elif kind == "phase_changed":
            phase = event.phase_changed.phase
            self._ledger.set_phase(phase_name(event.phase_changed))
            audit("local", "phase", "ok", phase=phase_name(event.phase_changed))
            if phase == coordinator_pb2.PHASE_TRAINING:
                self._training = threading.Thread(target=self._train, name="trainer", daemon=True)
                self._training.start()

    def _hold_layer(self, header: coordinator_pb2.LayerHeader) -> None:
        plan, bank = self._known()
        folder = self._settings.state / "layers"
        fetch_layer(self._client, header, plan, bank, folder)
        self._layers[header.key_ref.site] = header.sha256
        if self._intake is not None or not bank.complete:
            return
        list_layers(folder, plan, self._layers)
        self._open_feed(plan, bank)
        stored = coordinator_pb2.LayersStored(plan_sha256=plan.sha256())
        self._client.report(coordinator_pb2.ReportRequest(layers_stored=stored))

    def _key_changes(self) -> KeyChanges:
        plan, bank = self._known()
        if self._intake is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "keys changed before the plan's layers were here")
        folder = self._settings.state / "layers"
        return KeyChanges(
            client=self._client, plan=plan, bank=bank, cache=self._cache, intake=self._intake, folder=folder
        )

    def _open_feed(self, plan: RunPlan, bank: LayerBank) -> None:
        codec = codec_named(plan.wire.codec)
        self._cache = SampleCache(self._settings.state / f"cache-{plan.run_id}.bin", CacheShape.of(plan))
        self._intake = Intake(
            plan,
            codec,
            self._cache,
            bank,
            in_flight_samples=self._settings.in_flight_samples,
            idle_timeout_s=plan.absence.patience_s,
            policy=plan.absence.policy,
        )
        self._sampler = GlobalSampler(
            [site.train_images for site in plan.sites], plan.training.batch, plan.training.seed
        )
        self._registry.register(SampleMetrics(self._ledger, self._cache))
        self._intake.want_missing(self._sampler, 0)
        self._service.open_feed(plan, self._intake)

    def _train(self) -> None:
        # Threads of arithmetic belong to the thread that first used some, and stay. If others had theirs, OpenMP would
        # count more threads than cores and let the trainer's go to sleep hundreds of times in each step.
        torch.set_num_threads(self._settings.threads)
        try:
            self._train_and_keep()
        except Exception as fault:
            self._news.put(fault)

    def _train_and_keep(self) -> None:
        plan, bank = self._known()
        if self._intake is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "training began before the layers were here")
        state = self._settings.state
        outcome_path, model_path = state / "outcome.json", state / "model.safetensors"
        trunk = build_trunk(plan.model, len(plan.classes), plan.training.seed)
        if outcome_path.exists() and read_outcome(outcome_path).plan_sha256 == plan.sha256().hex():
            load_trunk(trunk, model_path)
            digest = state_sha256(trunk)
        else:
            run = self._train_anew(plan, bank, trunk)
            digest = state_sha256(trunk)
            save_trunk(trunk, model_path, {"plan_sha256": plan.sha256().hex(), "run_id": plan.run_id})
            write_outcome(run.outcome(digest), outcome_path)
        self._checkpoints(plan).clear()
        self._service.open_predictions(plan, Predictor(plan, trunk, bank))
        self._intake.close()
        audit("local", "training_finished", "ok", run=plan.run_id, model_sha256=digest)
        done = coordinator_pb2.TrainingDone(model_sha256=bytes.fromhex(digest))
        self._client.report(coordinator_pb2.ReportRequest(training_done=done))

    def _train_anew(self, plan: RunPlan, bank: LayerBank, trunk: nn.Module) -> TrainingRun:
        if self._intake is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "training began before the layers were here")
        trainer = TrunkTrainer(trunk, plan.training, self._sampler.steps_per_epoch * plan.training.epochs)
        settings = self._settings
        metrics = MetricsFile(settings.state / "metrics.jsonl", tensorboard=settings.state / TENSORBOARD)
        run = TrainingRun(
            plan,
            self._sampler,
            trainer,
            self._intake,
            self._cache,
            bank,
            metrics,
            self._checkpoints(plan),
            CheckpointRule(every_s=settings.checkpoint_every_s, every_steps=settings.checkpoint_every_steps),
            self._stop,
            self._ledger_messages,
        )
        self._registry.register(TrainingMetrics(run))
        try:
            run.run(self._report_epoch)
        finally:
            metrics.close()
        return run

    def _checkpoints(self, plan: RunPlan) -> CheckpointFolder:
        return CheckpointFolder(self._settings.state / "checkpoints", plan.sha256().hex())

    def _ledger_messages(self) -> int:
        totals = self._ledger.totals()
        return totals.messages_sent + totals.messages_received

    def _report_epoch(self, metrics: EpochMetrics) -> None:
        text = f"epoch {metrics.epoch}: loss {metrics.loss:.4f}, {scores_text(metrics.scores)}"
        log(_LOGGER, logging.INFO, "epoch", text, epoch=metrics.epoch)
        done = coordinator_pb2.EpochDone(
            epoch=metrics.epoch, loss=metrics.loss, scores=metrics.scores, seconds=metrics.seconds
        )
        self._client.report(coordinator_pb2.ReportRequest(epoch_done=done))

    def _end(self, event: coordinator_pb2.WatchResponse) -> ExitCode:
        if event.phase_changed.phase == coordinator_pb2.PHASE_FAILED:
            fault = MpleError(ErrorCode.RUN_FAILED, event.phase_changed.reason)
            self._abandon(fault)
            raise fault
        give_up_at = time.monotonic() + _GRACE_S
        while self._intake is not None and self._intake.streams_open() and time.monotonic() < give_up_at:
            time.sleep(0.05)
        self._client.report_totals(self._ledger.totals())
        if self._settings.stay:
            self._ledger.set_phase("predict")
            log(_LOGGER, logging.INFO, "staying", "training has finished; answering predictions until stopped")
            self._key_changes().follow_after_end(event.sequence, self._stop)
            return ExitCode.INTERRUPTED
        log(_LOGGER, logging.INFO, "finished", "the run has finished")
        return ExitCode.DONE

    def _abandon(self, fault: Exception) -> None:
        reason = fault if isinstance(fault, MpleError) else MpleError(ErrorCode.INTERNAL, str(fault))
        if storage_fault_of(fault) is not None:
            reason = MpleError(ErrorCode.STORAGE_FULL)
        elif isinstance(fault, StoppedError | UnreachableError) or reason.code is ErrorCode.CERTIFICATE_REVOKED:
            # Also when this node was revoked: the sites would take the code for their own certificates'.
            reason = MpleError(ErrorCode.GOING_DOWN)
        if self._intake is not None:
            self._intake.fail(reason)
        if reason.code is not ErrorCode.RUN_FAILED:
            self._client.report_failure(fault)
        if self._training is not None:
            self._stop.set()
            self._training.join(timeout=_GRACE_S)

    def _known(self) -> tuple[RunPlan, LayerBank]:
        if self._plan is None or self._bank is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "the coordinator went on before there was a plan")
        return self._plan, self._bank
