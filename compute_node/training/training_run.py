"""Training a run from its cache: samples in the plan's order, features, steps, scores, checkpoints.

Each epoch ends with the scores of the validation images, which say which epoch's network is kept and whether training
ends early; at the end the network that is kept is scored once on the test images.

Where several ranks train together, each goes through this with its own samples, and they meet in every step and every
scoring. What is decided, rank 0 decides; it alone keeps checkpoints and metrics.

While one step trains, the next one's samples are awaited, read and decoded in a second thread, for validation too, and
across the ends of epochs unless training may end there; a third writes checkpoints. Time in which the trainer has to
wait for either, or for the sites' scores, is counted as idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field

from torch import Tensor

from compute_node.layers.layer_bank import ErasedKeyError
from compute_node.ranks import ALONE, Ranks
from compute_node.run_samples import RunSamples
from compute_node.training.checkpoint import Checkpoint, CheckpointFolder, CheckpointWriter, Position
from compute_node.training.epoch_record import EpochRecord
from compute_node.training.joint_steps import JointStep, JointSteps
from compute_node.training.kept_network import KeptNetwork
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.network_scoring import NetworkScoring, Scored
from compute_node.training.read_ahead import ReadAhead, ReadySamples, Wanted
from compute_node.training.trainer_time import IDLE, TrainerTime, Use, idle_shares
from mple.disk.json_records import record_from_json, record_to_json
from mple.meter import Ledger
from mple.model.training import BatchLoss, TrunkTrainer
from mple.model.weights import state_sha256
from mple.node.logs import log
from mple.node.stop import Stop
from mple.plan.keeping import Judged
from mple.plan.shares import LEAST_STEP_SAMPLES
from mple.records.scores import NetworkScores
from mple.records.training import EpochMetrics, NetworkMetrics, Outcome, StepMetrics, TrainingMetrics
from mple.v1 import common_pb2

_LINE_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRule:
    """When a checkpoint is due: as soon as either is reached."""

    every_s: float
    every_steps: int


@dataclass(slots=True)
class TrainingState:
    """How far a training is, for whoever watches it."""

    epoch: int = 0
    """Counted from 1; 0 before the first step, as the rest."""
    steps_done: int = 0
    """Of all epochs."""
    samples_trained: int = 0
    loss: float | None = None
    """Of the last step."""
    learning_rate: float = 0.0
    samples_per_second: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of validation after the last whole epoch, by metric."""
    test_scores: Mapping[str, float] = field(default_factory=dict)
    """Of the network that is kept; empty before the end."""


class TrainingRun:
    """One plan's training on one compute node."""

    def __init__(
        self,
        samples: RunSamples,
        trainer: TrunkTrainer,
        metrics: MetricsFile,
        checkpoints: CheckpointFolder,
        rule: CheckpointRule,
        ledger: Ledger,
        stop: Stop,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks, self._leads = ranks, ranks.trainer.leads
        self._steps = JointSteps(samples.plan, samples.sampler, ranks.trainer)
        self._plan, self._sampler, self._trainer = samples.plan, samples.sampler, trainer
        self._intake, self._bank, self._metrics, self._stop = samples.intake, samples.bank, metrics, stop
        self._checkpoints, self._rule, self._ledger = checkpoints, rule, ledger
        self._ahead = ReadAhead(samples.intake, samples.cache, samples.bank, trainer.device)
        self._writer = CheckpointWriter(checkpoints, metrics.to_disk)
        self.time = TrainerTime()
        self._scoring = NetworkScoring(samples, trainer, self._ahead, self.time, stop, ranks)
        self._keeping, self._judged, self._kept = self._plan.keep_rule, Judged(), ""
        self.state = TrainingState()
        self._seconds_before = self._ahead_seconds_before = 0.0
        self._began = self._kept_at = time.monotonic()
        self._ended: float | None = None
        self._steps_kept = 0

    @property
    def train_seconds(self) -> float:
        """Time of training so far; what a restart did again counts once."""
        now_s = time.monotonic() if self._ended is None else self._ended
        return self._seconds_before + now_s - self._began

    def run(self, on_epoch: Callable[[EpochMetrics], None]) -> NetworkScores:
        """Train, from the newest checkpoint on if there is one; the trunk is then the network that is kept.

        Args:
            on_epoch: Called after each epoch; after a restart possibly once more for one that it was called for.

        Returns what it has scored.

        Raises DivergenceError: training diverged; DamagedError: the network that was kept is gone from the disk;
        MpleError: a site stayed away for too long, or the intake was told to fail; StoppedError: the node is to stop;
        OSError: the disk refused a checkpoint.
        """
        if self._ranks.share.ranks > 1:
            with self._ranks.faults():
                self._trainer.settle(self._scoring.no_features())
        record, epochs = self._resumed(), self._plan.training.epochs
        early = self._keeping.patience is not None
        coming: Iterator[Future[ReadySamples]] = iter(())
        read_to = record.epoch
        val = Scored()
        with self._writer, self._ahead:
            while record.epoch < epochs and not self._keeping.ends(self._judged):
                if record.epoch == read_to:
                    read_to = record.epoch + 1 if early else epochs  # nothing is awaited that may not be trained on
                    coming = self._ahead.in_turn(self._wanted(record.epoch, record.step, read_to))
                metrics, val = self._epoch(record, coming)
                self._judge(metrics, val)
                self._write(metrics)
                with self.time.spent(Use.REPORTS):
                    on_epoch(metrics)
                record = EpochRecord.begin(record.epoch + 1, self._sampler)
            scores = self._score_kept(record.epoch, val)
        self.state.test_scores = scores.values_of_test(self._plan.outputs)
        self._write(
            NetworkMetrics(epoch=scores.kept_epoch, scores=dict(self.state.test_scores), time_unix_s=time.time())
        )
        return scores

    def outcome(self, model_sha256: str) -> Outcome:
        """How the run has ended, with the network of this digest."""
        spent = self.time.seconds()
        return Outcome(
            run_id=self._plan.run_id,
            plan_sha256=self._plan.sha256().hex(),
            model_sha256=model_sha256,
            train_seconds=self.train_seconds,
            augconv_seconds=self.time.first_layer_seconds,
            idle_seconds=self.time.idle_seconds,
            samples_trained=self.state.samples_trained,
            idle_seconds_by_cause={use.value: spent[use] for use in IDLE},
            read_ahead_seconds=self.read_ahead_seconds,
        )

    @property
    def over(self) -> bool:
        """Whether all is done and scored."""
        return self._ended is not None

    @property
    def read_ahead_seconds(self) -> float:
        """Time in reading and decoding samples so far."""
        return self._ahead_seconds_before + self._ahead.busy_seconds

    @property
    def checkpoint_age_s(self) -> float:
        """Training that would be lost if the process were killed now, in seconds."""
        return time.monotonic() - (self._writer.written_s or self._began)

    def _resumed(self) -> EpochRecord:
        kept = self._checkpoint_of_all()
        if kept is None:
            if self._leads:
                self._metrics.cut(0, epoch=0, step=0)
            return EpochRecord.begin(0, self._sampler)
        position = kept.position
        self._trainer.restore(kept.tensors, position.steps_done)
        if self._leads:
            self._metrics.cut(position.metrics_bytes, epoch=position.epoch, step=position.step)
        self._judged, self._kept = position.judged, position.kept
        self.time.restore(position.spent_seconds)
        self.state.samples_trained, self.state.steps_done = position.samples_trained, position.steps_done
        self._seconds_before, self._ahead_seconds_before = position.train_seconds, position.read_ahead_seconds
        self._began = self._kept_at = time.monotonic()
        self._steps_kept = position.steps_done
        text = f"training goes on in epoch {position.epoch + 1} after step {position.step}"
        log("resumed", text, epoch=position.epoch + 1, step=position.step)
        return EpochRecord.of(position, kept.tensors)

    def _checkpoint_of_all(self) -> Checkpoint | None:
        """The newest one of rank 0."""
        kept = self._checkpoints.newest() if self._leads else None
        told = self._ranks.trainer.broadcast(b"" if kept is None else record_to_json(kept.position).encode())
        if not told:
            return None
        tensors = self._ranks.shared(kept.tensors if kept is not None else {})
        return Checkpoint(record_from_json(Position, told.decode(), "a checkpoint of rank 0"), tensors)

    def _wanted(self, first_epoch: int, first_step: int, end: int) -> Iterator[Wanted]:
        """What steps and validation need, in their order, from a place up to the beginning of an epoch."""
        for epoch in range(first_epoch, end):
            for step in range(first_step if epoch == first_epoch else 0, self._sampler.steps_per_epoch):
                yield Wanted(common_pb2.SPLIT_TRAIN, self._sampler.step(epoch, step))
            yield from self._scoring.wanted(common_pb2.SPLIT_VAL)

    def _epoch(self, record: EpochRecord, coming: Iterator[Future[ReadySamples]]) -> tuple[EpochMetrics, Scored]:
        epoch, steps = record.epoch, self._sampler.steps_per_epoch
        began = time.monotonic() - record.seconds
        line = self._new_line()
        self.state.epoch = epoch + 1
        for step in range(record.step, steps):
            taken = self._train_step(epoch, step, self._scoring.next(coming))
            loss = taken.total.nats if taken.total.samples else None
            record.took(step, taken.numbers, loss)
            if loss is not None:
                self.state.loss, self.state.learning_rate = loss, self._trainer.learning_rate
                self.state.samples_trained += taken.total.samples
                self.state.steps_done = self._trainer.steps_done
                line.samples += taken.total.samples
                line.losses.append(loss)
            keep = self._checkpoint_due()  # after the line: losses that are in none would be lost to a restart
            if line.losses and (keep or line.due() or step + 1 == steps):
                self._write(self._step_metrics(epoch, step, line))
                line = self._new_line()
            record.seconds = time.monotonic() - began
            if keep:
                self._keep(record)
        record.require_once()
        scored = self._scoring.score(common_pb2.SPLIT_VAL, epoch + 1, coming)
        self.state.scores = scored.values
        metrics = EpochMetrics(
            epoch=epoch + 1,
            loss=record.mean_loss(),
            scores=dict(self.state.scores),
            seconds=time.monotonic() - began,
            samples=record.samples,
            missing=record.missing(self._plan),
            unscored=scored.silent,
            scoring_seconds=scored.seconds,
            scores_waited_seconds=scored.waited_seconds,
            time_unix_s=time.time(),
        )
        return metrics, scored

    def _judge(self, metrics: EpochMetrics, val: Scored) -> None:
        """Keep the network of an epoch that is better than all before, and say so when training ends here."""
        name = self._plan.training.keep_by
        self._judged = self._keeping.after(self._judged, metrics.epoch, metrics.scores.get(name))
        if self._leads and self._keeping.best and self._judged.best_epoch == metrics.epoch:
            kept = KeptNetwork(epoch=metrics.epoch, weights=self._trainer.trunk.state_dict(), val=val.tallies)
            with self.time.spent(Use.CHECKPOINTS):
                self._writer.settle()  # what checkpoints rest on is known once they are written
                self._kept = self._checkpoints.kept.write(kept, self._checkpoints.kept_names())
        if metrics.epoch < self._plan.training.epochs and self._keeping.ends(self._judged):
            waited = self._judged.waited
            text = (
                f"training ends after epoch {metrics.epoch}: for {waited} epoch{'s' if waited > 1 else ''} validation "
                f"{name} has not been better than the {self._judged.best_value:.4f} of epoch {self._judged.best_epoch}"
            )
            log("early_end", text, epoch=metrics.epoch)

    def _score_kept(self, epochs: int, val: Scored) -> NetworkScores:
        """Take up the network that is kept, after so many epochs, and score it on the test images."""
        epoch, tallies, trunk = epochs, val.tallies, self._trainer.trunk
        if self._keeping.best and self._judged.best_epoch:
            epoch = self._judged.best_epoch
            weights: Mapping[str, Tensor] = {}
            if self._leads:
                kept = self._checkpoints.kept.read(self._kept)
                weights, tallies = kept.weights, kept.val
            trunk.load_state_dict(self._ranks.shared(weights))
            log("kept", f"the network of epoch {epoch} is kept", epoch=epoch)
        self._trainer.require_finite()
        coming = self._ahead.in_turn(self._scoring.wanted(common_pb2.SPLIT_TEST))
        test = self._scoring.score(common_pb2.SPLIT_TEST, epoch, coming)
        self._ended = time.monotonic()
        return NetworkScores(
            plan_sha256=self._plan.sha256().hex(),
            model_sha256=state_sha256(trunk),
            kept_epoch=epoch,
            epochs=epochs,
            val=tallies,
            test=test.tallies,
        )

    def _checkpoint_due(self) -> bool:
        self._writer.raise_fault()
        steps = self._trainer.steps_done - self._steps_kept if self._leads else 0
        return steps >= self._rule.every_steps or (steps > 0 and time.monotonic() - self._kept_at >= self._rule.every_s)

    def _keep(self, record: EpochRecord) -> None:
        totals = self._ledger.totals()
        position = Position(
            plan_sha256=self._plan.sha256().hex(),
            epoch=record.epoch,
            step=record.step,
            steps_done=self._trainer.steps_done,
            train_seconds=self.train_seconds,
            epoch_seconds=record.seconds,
            spent_seconds={use.value: seconds for use, seconds in self.time.seconds().items()},
            read_ahead_seconds=self.read_ahead_seconds,
            samples_trained=self.state.samples_trained,
            metrics_bytes=self._metrics.length_bytes,
            ledger_messages=totals.messages_sent + totals.messages_received,
            judged=self._judged,
            kept=self._kept,
        )
        with self.time.spent(Use.CHECKPOINTS):
            self._writer.write(Checkpoint(position, {**self._trainer.state(), **record.tensors()}))
        self._steps_kept, self._kept_at = self._trainer.steps_done, time.monotonic()

    def _train_step(self, epoch: int, step: int, samples: ReadySamples) -> JointStep:
        """Take a step with all ranks, but where none has samples enough; those of a rank with too few are left out."""
        batch, samples = self._forward(samples)
        with self.time.spent(Use.RANKS) if self._ranks.share.ranks > 1 else nullcontext():
            taken = self._steps.taken(epoch, step, batch.part, samples.numbers)
        if taken.total.samples:
            with self._ranks.faults():
                self._trainer.backward(batch, taken.total)
        return taken

    def _forward(self, samples: ReadySamples) -> tuple[BatchLoss, ReadySamples]:
        while len(samples.numbers) >= LEAST_STEP_SAMPLES:
            try:
                features_BFHW = self._scoring.features(samples)
            except ErasedKeyError:  # revoked since they were read
                samples = self._scoring.again(samples)
                continue
            with self._ranks.faults():
                return self._trainer.forward(features_BFHW, samples.labels_B), samples
        with self._ranks.faults():
            return self._trainer.nothing(self._scoring.no_features()), samples

    def _write(self, metrics: TrainingMetrics) -> None:
        if self._leads:
            self._metrics.write(metrics)

    def _new_line(self) -> _LineTimer:
        return _LineTimer(self.time.seconds(), self._ahead.busy_seconds)

    def _step_metrics(self, epoch: int, step: int, line: _LineTimer) -> StepMetrics:
        elapsed_s = max(1e-9, time.monotonic() - line.began)
        spent = self.time.seconds()
        idle = idle_shares(line.spent_before, spent, elapsed_s)
        first_layer_s = spent[Use.FIRST_LAYER] - line.spent_before[Use.FIRST_LAYER]
        self.state.samples_per_second = line.samples / elapsed_s
        return StepMetrics(
            epoch=epoch + 1,
            step=step + 1,
            steps=self._sampler.steps_per_epoch,
            loss=line.losses[-1],
            losses=tuple(line.losses),
            lr=self._trainer.learning_rate,
            samples_per_second=self.state.samples_per_second,
            idle_share=min(1.0, sum(idle.values())),
            idle_shares=idle,
            first_layer_share=first_layer_s / elapsed_s,
            read_ahead_share=(self._ahead.busy_seconds - line.read_before_s) / elapsed_s,
            time_unix_s=time.time(),
        )


class _LineTimer:
    def __init__(self, spent_before: dict[Use, float], read_before_s: float) -> None:
        self.began = time.monotonic()
        self.spent_before, self.read_before_s = spent_before, read_before_s
        self.samples = 0
        self.losses: list[float] = []

    def due(self) -> bool:
        return time.monotonic() - self.began >= _LINE_EVERY_S
