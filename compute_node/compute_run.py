"""The compute node's part in one run, from the plan on: hold the layers, take samples in, train, answer predictions.

Each of several ranks goes through it with its own share of the samples; rank 0 speaks for all.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compute_node.foresight import foresee
from compute_node.key_changes import KEY_EVENTS, KeyChanges
from compute_node.layers.layer_fetch import fetch_layer
from compute_node.network_file import write_network
from compute_node.predictor import TRAINED_AGAIN, Predictor, load_outcome
from compute_node.ranks import ALONE, Ranks
from compute_node.run_samples import RunSamples
from compute_node.service import ComputeService
from compute_node.training.checkpoint import CheckpointFolder
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.training_metrics import SampleMetrics, TrainingMetrics
from compute_node.training.training_run import CheckpointRule, TrainingRun
from mple.audit import audit
from mple.delivered.continued import require_going_on
from mple.disk.json_records import read_record, record_from_json, record_to_json, write_record
from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import noted_storage_fault, storage_fault_of
from mple.meter import Direction
from mple.metrics import epoch_text, merged, scores_text
from mple.metrics.messages import to_messages
from mple.model.class_weights import ClassCounts
from mple.model.device import Device
from mple.model.initial_weights import InitialWeights, WeightsError, initial_trunk
from mple.model.loss import TaskLoss
from mple.model.stem import planned_stem
from mple.model.training import DivergenceError, TrunkTrainer
from mple.model.weights import save_trunk
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, warn
from mple.node.retry import StoppedError, UnreachableError
from mple.node.run_follower import RunFollower
from mple.node.session import NodeSession
from mple.plan import ClassWeights, ComputeSettings, DeliverTo, RunPlan
from mple.records.class_counts import keep_class_counts, kept_class_counts
from mple.records.layer_list import list_layers
from mple.records.log_events import LogEvent
from mple.records.plan_file import keep_plan
from mple.records.scores import NetworkScores
from mple.records.state_files import CHECKPOINTS, LAYERS, METRICS, MODEL, NETWORK, OUTCOME, SCORES, TENSORBOARD
from mple.records.training import EpochMetrics, Outcome
from mple.rpc import ErrorCode, MpleError, error_for
from mple.v1 import coordinator_pb2

_GRACE_S = 10.0


class ComputeRun:
    """One plan, as this node follows it."""

    def __init__(
        self,
        node: NodeSession,
        settings: ComputeSettings,
        client: CoordinatorClient,
        service: ComputeService,
        plan: RunPlan,
        weights: InitialWeights | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Keep the plan, and go on with what an earlier process of the same run has left. The network begins with the
        weights of a file where the plan says so, and with no others.

        Raises ValueError: a file in the state folder is damaged, the device is not there, or the plan takes more memory
        than this machine has; MpleError: WEIGHTS_REJECTED when the weights do not fit the plan, RANKS_REJECTED when
        this is not one of its ranks; OSError: the disk refuses.
        """
        _require_planned(plan, ranks)
        self._ranks = ranks
        self._node, self._settings, self._client, self._service = node, settings, client, service
        self._plan, self._layers_folder = plan, settings.state / LAYERS
        device = Device.named(settings.device)
        foresee(plan, settings, device)
        self._trunk = first_trunk(plan, weights)
        keep_plan(settings.state, plan)
        self._samples = RunSamples.of(plan, settings, device, ranks.share)
        self._key_changes = KeyChanges(
            client=client, samples=self._samples, folder=self._layers_folder, ranks=ranks.main
        )
        self._digests: dict[str, bytes] = {}
        """Of the layers that were fetched, by site."""
        self._feed_open = False
        node.show(SampleMetrics(node.ledger, self._samples.cache))
        audit("local", "plan", "ok", run=plan.run_id, sha256=plan.sha256().hex())
        log(LogEvent.PLAN, f"follows plan {plan.sha256().hex()[:16]}")

    def take_part(self, events: RunFollower) -> None:
        """Do what the run's events ask for, up to its end.

        Raises Exception: as `RunFollower.__next__`, and what went wrong here; the sites' streams have been told then.
        """
        try:
            for event in events:
                self._take(event, events)
        except Exception as fault:
            self._samples.intake.fail(_told(fault))
            raise

    def end(self, sequence: int) -> None:
        """Tell the coordinator the ledger's sums; then end or, as the settings say, answer predictions until stopped.

        Args:
            sequence: Number of the event that ended the run.

        Raises StoppedError: the node was told to end.
        """
        self._samples.intake.await_streams_closed(_GRACE_S)
        self._client.report_totals(self._node.ledger.totals(), self._ranks.share.rank)
        if self._settings.stay:
            self._node.ledger.phase = "predict"
            log("staying", "training has finished; answering predictions until stopped")
            self._key_changes.follow_after_end(sequence, self._node.stop)
            raise StoppedError
        log("finished", "the run has finished")

    def _take(self, event: coordinator_pb2.WatchResponse, events: RunFollower) -> None:
        kind = event.WhichOneof("event")
        if kind == "layer_released":
            self._hold_layer(event.layer_released.header)
        elif kind in KEY_EVENTS:
            self._require_layers("keys changed")
            self._key_changes.take(event)
        elif kind == "fault":
            self._samples.intake.leave(event.fault.party.removeprefix("site/"))
        elif event.phase_changed.phase == coordinator_pb2.PHASE_TRAINING:
            self._require_layers("training began")
            events.start("trainer", self._train)

    def _require_layers(self, what: str) -> None:
        if not self._feed_open:
            raise MpleError(ErrorCode.WRONG_PHASE, f"{what} before the plan's layers were here")

    def _hold_layer(self, header: coordinator_pb2.LayerHeader) -> None:
        plan, samples = self._plan, self._samples
        fetch_layer(self._client, header, plan, samples.bank, self._layers_folder)
        self._digests[header.key_ref.site] = header.sha256
        if self._feed_open or not samples.bank.complete:
            return
        list_layers(self._layers_folder, plan, self._digests)
        samples.intake.want_missing(samples.sampler, 0)
        received = partial(self._node.ledger.samples, plan.run_id, direction=Direction.RECEIVED)
        self._service.open_feed(plan, samples.intake, received)
        self._feed_open = True
        self._ranks.main.gather()
        if self._ranks.main.leads:
            stored = coordinator_pb2.LayersStored(plan_sha256=plan.sha256())
            self._client.report(coordinator_pb2.ReportRequest(layers_stored=stored))

    def _train(self) -> None:
        try:
            self._train_together()
        except Exception as fault:
            self._ranks.trainer.tell(fault)
            raise

    def _train_together(self) -> None:
        # Threads of arithmetic belong to the thread that first used some, and stay. If others had theirs, OpenMP would
        # count more threads than cores and let the trainer's go to sleep hundreds of times in each step.
        torch.set_num_threads(self._settings.threads)
        self._samples.bank.device.enter_thread()
        plan, state = self._plan, self._settings.state
        outcome_path, model_path = state / OUTCOME, state / MODEL
        checkpoints = CheckpointFolder(state / CHECKPOINTS, plan.sha256().hex())
        trunk, together = self._trunk, self._ranks.trainer
        outcome = read_record(Outcome, outcome_path, TRAINED_AGAIN) if outcome_path.exists() else None
        trained = outcome is not None and outcome.plan_sha256 == plan.sha256().hex()
        if together.broadcast(b"trained" if trained else b"") and not together.leads:
            self._end_behind_rank_0()
            return
        if outcome is not None and trained:
            load_outcome(trunk, model_path, outcome)
            scores = read_record(NetworkScores, state / SCORES, TRAINED_AGAIN)
        else:
            run, scores = self._train_anew(trunk, checkpoints)
            if not together.leads:
                self._end_behind_rank_0()
                return
            digest = scores.model_sha256
            save_trunk(trunk, model_path, {"plan_sha256": plan.sha256().hex(), "run_id": plan.run_id})
            write_record(state / SCORES, scores)
            outcome = run.outcome(digest)
            write_record(outcome_path, outcome)  # last: with it the training is over
        checkpoints.clear()
        self._service.open_predictions(plan, Predictor(plan, trunk, self._samples.bank))
        self._report_scores(scores)
        if plan.delivery.to is DeliverTo.SITES and outcome.delivered is None:
            delivered = self._deliver(trunk, scores)
            # Before any site is told that it is done: those that were do not come back to say again what they have.
            write_record(outcome_path, replace(outcome, delivered=delivered))
        together.gather()
        self._samples.intake.close()
        audit("local", "training_finished", "ok", run=plan.run_id, model_sha256=outcome.model_sha256)
        done = coordinator_pb2.TrainingDone(model_sha256=bytes.fromhex(outcome.model_sha256))
        self._client.report(coordinator_pb2.ReportRequest(training_done=done))

    def _end_behind_rank_0(self) -> None:
        """No site is told that it is done before all have the network, which is rank 0's affair."""
        self._ranks.trainer.gather()
        self._samples.intake.close()

    def _deliver(self, trunk: nn.Module, scores: NetworkScores) -> tuple[str, ...]:
        """Have every site fetch the trunk; returns those that have it. After a restart they are told of it again, and
        who has it says so at once."""
        path = self._settings.state / NETWORK.format(self._plan.run_id)
        network = write_network(trunk, self._plan, path)
        self._service.open_network(network)
        log("network_ready", f"the sites can fetch the trained network, {network.total_bytes:,} bytes")
        without = self._samples.intake.deliver(network.ready(epoch=scores.kept_epoch, model_sha256=scores.model_sha256))
        if without:
            warn("network_not_delivered", f"without the trained network: {', '.join(without)}", sites=",".join(without))
        self._service.open_network(None)
        path.unlink()
        return tuple(site.name for site in self._plan.sites if site.name not in without)

    def _train_anew(self, trunk: nn.Module, checkpoints: CheckpointFolder) -> tuple[TrainingRun, NetworkScores]:
        plan, settings = self._plan, self._settings
        steps = self._samples.sampler.steps_per_epoch * plan.training.epochs
        loss = TaskLoss.of(plan.task, self._class_counts(), self._samples.bank.device)
        metrics = MetricsFile(settings.state / METRICS, tensorboard=settings.state / TENSORBOARD)
        run = TrainingRun(
            self._samples,
            TrunkTrainer(
                trunk,
                plan.training,
                steps,
                self._samples.bank.device,
                loss,
                mirrored_channels=self._mirrored_channels(),
                rank=self._ranks.share.rank,
                ranks=self._ranks.share.ranks,
                wrapped=self._ranks.wrapped,
            ),
            metrics,
            checkpoints,
            CheckpointRule(every_s=settings.checkpoint_every_s, every_steps=settings.checkpoint_every_steps),
            self._node.ledger,
            self._node.stop,
            self._ranks,
        )
        self._node.show(TrainingMetrics(run))
        try:
            return run, run.run(self._report_epoch)
        except DivergenceError as fault:
            raise MpleError(ErrorCode.DIVERGED, str(fault)) from None
        finally:
            metrics.close()

    def _class_counts(self) -> ClassCounts | None:
        """Where the plan weights classes; the same ever after, whichever sites are there."""
        plan, state = self._plan, self._settings.state
        if plan.task.class_weights is ClassWeights.NONE:
            return None
        digest = plan.sha256().hex()
        counts = kept_class_counts(state, digest) if self._ranks.trainer.leads else None
        if counts is None and self._ranks.trainer.leads:
            counts = self._samples.intake.class_counts()
            keep_class_counts(state, digest, counts)
        told = self._ranks.trainer.broadcast(b"" if counts is None else record_to_json(counts).encode())
        return record_from_json(ClassCounts, told.decode(), "what rank 0 says of the classes")

    def _mirrored_channels(self) -> NDArray[np.int64] | None:
        """As the sites have told rank 0; None where the plan mirrors nothing."""
        told = self._samples.intake.mirrored_channels() if self._ranks.trainer.leads else None
        channels = self._ranks.trainer.broadcast(b"" if told is None else told.astype("<i8").tobytes())
        return np.frombuffer(channels, "<i8").astype(np.int64) if channels else None

    def _report_epoch(self, metrics: EpochMetrics) -> None:
        text = f"epoch {metrics.epoch}: {epoch_text(metrics.loss, metrics.scores)}"
        log("epoch", text, epoch=metrics.epoch)
        if not self._ranks.trainer.leads:
            return
        done = coordinator_pb2.EpochDone(
            epoch=metrics.epoch, loss=metrics.loss, scores=metrics.scores, seconds=metrics.seconds
        )
        self._client.report(coordinator_pb2.ReportRequest(epoch_done=done))

    def _report_scores(self, scores: NetworkScores) -> None:
        outputs = self._plan.outputs
        values = scores.values_of_test(outputs)
        log("network_scored", f"the network of epoch {scores.kept_epoch}: {scores_text(values)}")
        scored = coordinator_pb2.NetworkScored(
            epoch=scores.kept_epoch,
            scores=values,
            val_tallies=to_messages(merged(scores.val.values())),
            test_tallies=to_messages(merged(scores.test.values())),
        )
        self._client.report(coordinator_pb2.ReportRequest(network_scored=scored))


def first_trunk(plan: RunPlan, weights: InitialWeights | None) -> nn.Module:
    """The trunk with which a plan's training begins.

    Raises MpleError: WEIGHTS_REJECTED when the file is not the plan's, or its network not one for the run.
    """
    digest = "" if weights is None else weights.sha256.hex()
    if digest != plan.weights_digest:
        text = f"the file has digest {digest[:16] or 'none'}, the plan says {plan.weights_digest[:16] or 'none'}"
        raise MpleError(ErrorCode.WEIGHTS_REJECTED, text)
    try:
        if weights is not None:
            stem = planned_stem(plan.model, filters=plan.filters, channels=plan.channels, offered=weights.stem)
            if stem.digest().hex() != plan.stem_digest:
                raise WeightsError("the plan's stem is not the one of the file of weights")
            for line in require_going_on(weights.metadata, plan, plan.classes, plan.channels):
                warn("initial_weights", line)
        return initial_trunk(plan.model, len(plan.classes), plan.training.seed, weights)
    except ValueError as fault:
        raise MpleError(ErrorCode.WEIGHTS_REJECTED, str(fault)) from None


def _require_planned(plan: RunPlan, ranks: Ranks) -> None:
    """Refuse a plan for another number of ranks, and one that other ranks do not have."""
    size, planned = ranks.share.ranks, plan.training.ranks
    if size != planned:
        raise MpleError(
            ErrorCode.RANKS_REJECTED,
            f"the plan has training.ranks = {planned}, this compute node was started with {size}",
            fix=f"start {planned} with torchrun, or set training.ranks = {size} for the next run",
        )
    digests = ranks.main.gather(plan.sha256())
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        text = f"ranks {', '.join(map(str, others))} follow another plan than rank 0"
        raise MpleError(ErrorCode.RANKS_REJECTED, text, fix="start all ranks with equal files")


def _told(fault: Exception) -> MpleError:
    """What the sites' streams end with."""
    if (own := noted_storage_fault() or storage_fault_of(fault) or scarcity_of(fault)) is not None:
        return error_for(own)
    revoked = isinstance(fault, MpleError) and fault.code is ErrorCode.CERTIFICATE_REVOKED
    if revoked or isinstance(fault, StoppedError | UnreachableError):
        return MpleError(ErrorCode.GOING_DOWN)
    # Whatever it was, it was not theirs: they hear of it as the run's end, from the coordinator.
    return MpleError(ErrorCode.RUN_FAILED, str(fault))
