"""Training a run from its cache: samples in the plan's order, features, steps, scores, checkpoints.

While one step trains, the next one's samples are awaited, read and decoded in a second thread, across the ends of
epochs and for scoring too; a third writes checkpoints. Time in which the trainer has to wait for either, or for the
sites' scores, is counted as idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from compute_node.layers.layer_bank import ErasedKeyError
from compute_node.run_samples import RunSamples
from compute_node.training.checkpoint import Checkpoint, CheckpointFolder, CheckpointWriter, Position
from compute_node.training.epoch_record import EpochRecord
from compute_node.training.features import features
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.read_ahead import ReadAhead, ReadySamples, Wanted
from compute_node.training.trainer_time import IDLE, TrainerTime, Use, idle_shares
from mple.meter import Ledger
from mple.metrics import merged, values
from mple.model.training import TrunkTrainer
from mple.node.logs import log
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from mple.records.training import EpochMetrics, Outcome, StepMetrics
from mple.v1 import common_pb2
from mple.wire.codecs import codec_named

_SCORED_AT_ONCE = 250
_LEAST_SAMPLES = 2
"""Batch norm needs more than one; a step with fewer left is not taken."""
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
    """After the last whole epoch, by metric."""


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
    ) -> None:
        self._plan, self._sampler, self._trainer = samples.plan, samples.sampler, trainer
        self._intake, self._bank, self._metrics, self._stop = samples.intake, samples.bank, metrics, stop
        self._checkpoints, self._rule, self._ledger = checkpoints, rule, ledger
        self._tests = sum(site.test_images for site in self._plan.sites)
        codec = codec_named(self._plan.wire.codec)
        self._ahead = ReadAhead(samples.intake, samples.cache, codec, self._plan.geometry.blocks)
        self._writer = CheckpointWriter(checkpoints, metrics.to_disk)
        self.time = TrainerTime()
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

    def run(self, on_epoch: Callable[[EpochMetrics], None]) -> None:
        """Train all epochs, from the newest checkpoint on if there is one.

        Args:
            on_epoch: Called after each epoch; after a restart possibly once more for one that it was called for.

        Raises DivergenceError: training diverged; MpleError: a site stayed away for too long, or the intake was told to
        fail; StoppedError: the node is to stop; OSError: the disk refused a checkpoint.
        """
        record = self._resumed()
        wanted = self._wanted(record.epoch, record.step)
        with self._writer, self._ahead:
            coming = self._ahead.in_turn(wanted)
            while record.epoch < self._plan.training.epochs:
                metrics = self._epoch(record, coming)
                self._metrics.write(metrics)
                with self.time.spent(Use.REPORTS):
                    on_epoch(metrics)
                record = EpochRecord.begin(record.epoch + 1, self._sampler)
        self._trainer.require_finite()
        self._ended = time.monotonic()

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
        """Whether all epochs are done."""
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
        kept = self._checkpoints.newest()
        if kept is None:
            self._metrics.cut(0, epoch=0, step=0)
            return EpochRecord.begin(0, self._sampler)
        position = kept.position
        self._trainer.restore(kept.tensors, position.steps_done)
        self._metrics.cut(position.metrics_bytes, epoch=position.epoch, step=position.step)
        self.time.restore(position.spent_seconds)
        self.state.samples_trained, self.state.steps_done = position.samples_trained, position.steps_done
        self._seconds_before, self._ahead_seconds_before = position.train_seconds, position.read_ahead_seconds
        self._began = self._kept_at = time.monotonic()
        self._steps_kept = position.steps_done
        text = f"training goes on in epoch {position.epoch + 1} after step {position.step}"
        log("resumed", text, epoch=position.epoch + 1, step=position.step)
        return EpochRecord.of(position, kept.tensors)

    def _wanted(self, first_epoch: int, first_step: int) -> Iterator[Wanted]:
        """What steps and scorings need, in their order, from a place on."""
        for epoch in range(first_epoch, self._plan.training.epochs):
            for step in range(first_step if epoch == first_epoch else 0, self._sampler.steps_per_epoch):
                yield Wanted(common_pb2.SPLIT_TRAIN, self._sampler.step(epoch, step))
            for low in range(0, self._tests, _SCORED_AT_ONCE):
                numbers = np.arange(low, min(low + _SCORED_AT_ONCE, self._tests), dtype=np.int64)
                yield Wanted(common_pb2.SPLIT_TEST, numbers)

    def _epoch(self, record: EpochRecord, coming: Iterator[Future[ReadySamples]]) -> EpochMetrics:
        epoch, steps = record.epoch, self._sampler.steps_per_epoch
        began = time.monotonic() - record.seconds
        line = self._new_line()
        self.state.epoch = epoch + 1
        for step in range(record.step, steps):
            samples, loss = self._train_step(self._next(coming))
            record.took(step, samples.numbers, loss)
            if loss is not None:
                self.state.loss, self.state.learning_rate = loss, self._trainer.learning_rate
                self.state.samples_trained += len(samples.numbers)
                self.state.steps_done = self._trainer.steps_done
                line.samples += len(samples.numbers)
                line.losses.append(loss)
            keep = self._checkpoint_due()  # after the line: losses that are in none would be lost to a restart
            if line.losses and (keep or line.due() or step + 1 == steps):
                self._metrics.write(self._step_metrics(epoch, step, line))
                line = self._new_line()
            record.seconds = time.monotonic() - began
            if keep:
                self._keep(record)
        record.require_once()
        scored = self._score(epoch, coming) if self._tests else _Scored()
        self.state.scores = scored.scores
        return EpochMetrics(
            epoch=epoch + 1,
            loss=record.mean_loss(),
            scores=scored.scores,
            seconds=time.monotonic() - began,
            samples=record.samples,
            missing=record.missing(self._plan),
            unscored=scored.silent,
            scoring_seconds=scored.seconds,
            scores_waited_seconds=scored.waited_seconds,
            time_unix_s=time.time(),
        )

    def _next(self, coming: Iterator[Future[ReadySamples]]) -> ReadySamples:
        if self._stop.is_set():
            raise StoppedError
        with self.time.spent(Use.SAMPLES):
            return next(coming).result()

    def _again(self, samples: ReadySamples) -> ReadySamples:
        with self.time.spent(Use.SAMPLES):
            return self._ahead.read(samples.wanted)

    def _checkpoint_due(self) -> bool:
        self._writer.raise_fault()
        steps = self._trainer.steps_done - self._steps_kept
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
        )
        with self.time.spent(Use.CHECKPOINTS):
            self._writer.write(Checkpoint(position, {**self._trainer.state(), **record.tensors()}))
        self._steps_kept, self._kept_at = self._trainer.steps_done, time.monotonic()

    def _train_step(self, samples: ReadySamples) -> tuple[ReadySamples, float | None]:
        """The samples that were trained on and the loss, None when they are too few."""
        while len(samples.numbers) >= _LEAST_SAMPLES:
            try:
                return samples, self._trainer.step(self._features(samples), samples.labels_B)
            except ErasedKeyError:  # revoked since they were read
                samples = self._again(samples)
        return samples, None

    def _features(self, samples: ReadySamples) -> torch.Tensor:
        with self.time.spent(Use.FIRST_LAYER), torch.no_grad(), self._trainer.autocast():
            return features(samples.t_BKQ, samples.keys_B, self._bank.layers)

    def _score(self, epoch: int, coming: Iterator[Future[ReadySamples]]) -> _Scored:
        began = time.monotonic()
        logits_TC = np.empty((self._tests, len(self._plan.classes)), np.float32)
        scored_T = np.zeros(self._tests, np.bool_)
        for _ in range(0, self._tests, _SCORED_AT_ONCE):
            numbers = self._logits(self._next(coming), logits_TC)
            scored_T[numbers] = True
        waited = time.monotonic()
        with self.time.spent(Use.SCORES):
            tallies = self._intake.scores(common_pb2.SPLIT_TEST, epoch + 1, logits_TC, scored_T)
        ended = time.monotonic()
        return _Scored(
            scores=values(merged(tallies.values()), self._plan.outputs),
            silent=tuple(site.name for site in self._plan.sites if site.test_images and site.name not in tallies),
            seconds=ended - began,
            waited_seconds=ended - waited,
        )

    def _logits(self, samples: ReadySamples, logits_TC: NDArray[np.float32]) -> NDArray[np.int64]:
        """Fill in the rows of the test samples that are here, and return their numbers."""
        while len(samples.numbers):
            try:
                logits_TC[samples.numbers] = self._trainer.logits(self._features(samples)).numpy()
            except ErasedKeyError:  # revoked since they were read
                samples = self._again(samples)
                continue
            break
        return samples.numbers

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """What the sites make of an epoch's logits."""

    scores: dict[str, float] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    """Sites that did not score."""
    seconds: float = 0.0
    waited_seconds: float = 0.0


class _LineTimer:
    def __init__(self, spent_before: dict[Use, float], read_before_s: float) -> None:
        self.began = time.monotonic()
        self.spent_before, self.read_before_s = spent_before, read_before_s
        self.samples = 0
        self.losses: list[float] = []

    def due(self) -> bool:
        return time.monotonic() - self.began >= _LINE_EVERY_S
