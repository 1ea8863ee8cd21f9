"""Training a run from its cache: samples in the plan's order, features, steps, scores, checkpoints.

While one step trains, the next one's samples are awaited, read and checked in a second thread; time in which the
trainer has to wait for that thread is counted as idle.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compute_node.checkpoint import Checkpoint, CheckpointFolder, Position
from compute_node.epoch_record import EpochRecord
from compute_node.features import features
from compute_node.intake import Intake
from compute_node.layer_bank import ErasedKeyError, LayerBank
from compute_node.run_files import EpochMetrics, MetricsFile, StepMetrics
from compute_node.sample_cache import CachedSamples, SampleCache
from mple.model import TrunkTrainer
from mple.node.coordinator_line import StoppedError
from mple.node.logs import log
from mple.plan import GlobalSampler, RunPlan
from mple.v1 import common_pb2
from mple.wire import codec_named

_LOGGER = logging.getLogger("mple.compute")
_SCORED_AT_ONCE = 250
_LEAST_SAMPLES = 2
"""Batch norm needs more than one; a step with fewer left is not taken."""
_LINE_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRule:
    """When a checkpoint is due: as soon as either is reached."""

    every_s: float
    every_steps: int


class TrainingRun:
    """One plan's training on one compute node."""

    def __init__(
        self,
        plan: RunPlan,
        sampler: GlobalSampler,
        trainer: TrunkTrainer,
        intake: Intake,
        cache: SampleCache,
        bank: LayerBank,
        metrics: MetricsFile,
        checkpoints: CheckpointFolder,
        rule: CheckpointRule,
        stop: threading.Event,
        ledger_messages: Callable[[], int] = lambda: 0,
    ) -> None:
        self._plan, self._sampler, self._trainer = plan, sampler, trainer
        self._intake, self._cache, self._bank, self._metrics, self._stop = intake, cache, bank, metrics, stop
        self._checkpoints, self._rule, self._ledger_messages = checkpoints, rule, ledger_messages
        self._codec = codec_named(plan.wire.codec)
        self._tests = sum(site.test_images for site in plan.sites)
        self.augconv_seconds = 0.0
        self.idle_seconds = 0.0
        self.samples_trained = 0
        self._seconds_before = 0.0
        self._began = self._kept_at = time.monotonic()
        self._steps_kept = 0

    @property
    def train_seconds(self) -> float:
        """Time of training so far; what a restart did again counts once."""
        return self._seconds_before + time.monotonic() - self._began

    def run(self, on_epoch: Callable[[EpochMetrics], None]) -> None:
        """Train all epochs, from the newest checkpoint on if there is one.

        Args:
            on_epoch: Called after each epoch; after a restart possibly once more for one that it was called for.

        Raises:
            MpleError: A site stayed away for too long, or the intake was told to fail.
            StoppedError: The node is to stop.
            OSError: The disk refused a checkpoint.
        """
        record = self._resumed()
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as ahead:
            while record.epoch < self._plan.training.epochs:
                metrics = self._epoch(record, ahead)
                self._metrics.write(metrics)
                on_epoch(metrics)
                record = EpochRecord.begin(record.epoch + 1, self._sampler)

    def _resumed(self) -> EpochRecord:
        kept = self._checkpoints.newest()
        if kept is None:
            self._metrics.cut(0)
            return EpochRecord.begin(0, self._sampler)
        position = kept.position
        self._trainer.restore(kept.tensors, position.steps_done)
        self._metrics.cut(position.metrics_bytes)
        self.augconv_seconds, self.idle_seconds = position.augconv_seconds, position.idle_seconds
        self.samples_trained, self._seconds_before = position.samples_trained, position.train_seconds
        self._began = self._kept_at = time.monotonic()
        self._steps_kept = position.steps_done
        text = f"training goes on in epoch {position.epoch + 1} after step {position.step}"
        log(_LOGGER, logging.INFO, "resumed", text, epoch=position.epoch + 1, step=position.step)
        return EpochRecord.of(position, kept.tensors)

    def _epoch(self, record: EpochRecord, ahead: ThreadPoolExecutor) -> EpochMetrics:
        epoch, steps = record.epoch, self._sampler.steps_per_epoch
        began = time.monotonic() - record.seconds
        line = _LineTimer(self.idle_seconds)
        coming: Future[_Step] | None = None
        for step in range(record.step, steps):
            if self._stop.is_set():
                raise StoppedError
            waited = time.monotonic()
            samples = (coming or ahead.submit(self._samples, epoch, step)).result()
            self.idle_seconds += time.monotonic() - waited
            coming = ahead.submit(self._samples, epoch, step + 1) if step + 1 < steps else None
            samples, loss = self._train_step(epoch, step, samples)
            record.took(step, samples.numbers, loss)
            if loss is not None:
                self.samples_trained += len(samples.numbers)
                line.samples += len(samples.numbers)
                line.losses.append(loss)
            if line.losses and (line.due() or step + 1 == steps):
                self._metrics.write(self._step_metrics(epoch, step, line))
                line = _LineTimer(self.idle_seconds)
            record.seconds = time.monotonic() - began
            self._keep_if_due(record)
        record.require_once()
        accuracy, test_loss, unscored = self._score(epoch) if self._tests else (None, None, ())
        return EpochMetrics(
            epoch=epoch + 1,
            loss=record.mean_loss(),
            test_accuracy=accuracy,
            test_loss=test_loss,
            seconds=time.monotonic() - began,
            samples=record.samples,
            missing=record.missing(self._plan),
            unscored=unscored,
        )

    def _keep_if_due(self, record: EpochRecord) -> None:
        steps = self._trainer.steps_done
        old_s = time.monotonic() - self._kept_at
        if steps == self._steps_kept or (
            old_s < self._rule.every_s and steps - self._steps_kept < self._rule.every_steps
        ):
            return
        position = Position(
            plan_sha256=self._plan.sha256().hex(),
            epoch=record.epoch,
            step=record.step,
            steps_done=steps,
            train_seconds=self.train_seconds,
            epoch_seconds=record.seconds,
            augconv_seconds=self.augconv_seconds,
            idle_seconds=self.idle_seconds,
            samples_trained=self.samples_trained,
            metrics_bytes=self._metrics.length_bytes,
            ledger_messages=self._ledger_messages(),
        )
        self._checkpoints.write(Checkpoint(position, {**self._trainer.state(), **record.tensors()}))
        self._steps_kept, self._kept_at = steps, time.monotonic()

    def _samples(self, epoch: int, step: int) -> _Step:
        return self._read(common_pb2.SPLIT_TRAIN, self._sampler.step(epoch, step))

    def _read(self, split: common_pb2.Split, wanted: NDArray[np.int64]) -> _Step:
        while True:
            numbers = self._intake.wait_for(split, wanted)
            try:
                return _Step(numbers, self._cache.read(split, numbers))
            except KeyError:
                continue  # some were erased with a revoked key in between, and are asked for anew

    def _train_step(self, epoch: int, step: int, samples: _Step) -> tuple[_Step, float | None]:
        """The samples that were trained on and the loss, None when they are too few."""
        while len(samples.numbers) >= _LEAST_SAMPLES:
            try:
                return samples, self._train(samples.cached)
            except ErasedKeyError:  # revoked since they were read
                samples = self._samples(epoch, step)
        return samples, None

    def _train(self, samples: CachedSamples) -> float:
        return self._trainer.step(self._features(samples), torch.from_numpy(samples.labels_B))

    def _features(self, samples: CachedSamples) -> torch.Tensor:
        began = time.monotonic()
        with torch.no_grad(), self._trainer.autocast():
            f_BFHW = features(samples, self._bank.layers, self._codec, self._plan.geometry)
        self.augconv_seconds += time.monotonic() - began
        return f_BFHW

    def _score(self, epoch: int) -> tuple[float | None, float | None, tuple[str, ...]]:
        """Accuracy, loss and the sites that did not score."""
        logits_TC = np.empty((self._tests, len(self._plan.classes)), np.float32)
        scored_T = np.zeros(self._tests, np.bool_)
        for low in range(0, self._tests, _SCORED_AT_ONCE):
            if self._stop.is_set():
                raise StoppedError
            wanted: NDArray[np.int64] = np.arange(low, min(low + _SCORED_AT_ONCE, self._tests), dtype=np.int64)
            numbers = self._logits(wanted, logits_TC)
            scored_T[numbers] = True
        waited = time.monotonic()
        scores = self._intake.scores(epoch + 1, logits_TC, scored_T)
        self.idle_seconds += time.monotonic() - waited
        silent = tuple(site.name for site in self._plan.sites if site.test_images and site.name not in scores)
        samples_scored = sum(score.samples for score in scores.values())
        if not samples_scored:
            return None, None, silent
        correct, loss_sum = sum(s.correct for s in scores.values()), sum(s.loss_sum for s in scores.values())
        return correct / samples_scored, loss_sum / samples_scored, silent

    def _logits(self, wanted: NDArray[np.int64], logits_TC: NDArray[np.float32]) -> NDArray[np.int64]:
        """Fill in the rows of the wanted test samples that are here, and return their numbers."""
        while True:
            waited = time.monotonic()
            samples = self._read(common_pb2.SPLIT_TEST, wanted)
            self.idle_seconds += time.monotonic() - waited
            if not len(samples.numbers):
                return samples.numbers
            try:
                logits_TC[samples.numbers] = self._trainer.logits(self._features(samples.cached)).numpy()
            except ErasedKeyError:  # revoked since they were read
                continue
            return samples.numbers

    def _step_metrics(self, epoch: int, step: int, line: _LineTimer) -> StepMetrics:
        elapsed_s = max(1e-9, time.monotonic() - line.began)
        return StepMetrics(
            epoch=epoch + 1,
            step=step + 1,
            steps=self._sampler.steps_per_epoch,
            loss=line.losses[-1],
            losses=tuple(line.losses),
            lr=self._trainer.learning_rate,
            samples_per_second=line.samples / elapsed_s,
            idle_share=min(1.0, (self.idle_seconds - line.idle_before) / elapsed_s),
        )


@dataclass(frozen=True, slots=True)
class _Step:
    """Samples of a step that are here, and their numbers."""

    numbers: NDArray[np.int64]
    cached: CachedSamples


class _LineTimer:
    def __init__(self, idle_before: float) -> None:
        self.began = time.monotonic()
        self.idle_before = idle_before
        self.samples = 0
        self.losses: list[float] = []

    def due(self) -> bool:
        return time.monotonic() - self.began >= _LINE_EVERY_S
