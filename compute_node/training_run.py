"""Training a run from its cache: samples in the plan's order, features, steps, scores after each epoch.

While one step trains, the next one's samples are awaited, read and checked in a second thread; time in which the
trainer has to wait for that thread is counted as idle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from compute_node.features import features
from compute_node.intake import Intake
from compute_node.layer_bank import LayerBank
from compute_node.run_files import EpochMetrics, MetricsFile, StepMetrics
from compute_node.sample_cache import CachedSamples, SampleCache
from mple.model import TrunkTrainer
from mple.node.coordinator_line import StoppedError
from mple.plan import GlobalSampler, RunPlan
from mple.v1 import common_pb2
from mple.wire import codec_named

_SCORED_AT_ONCE = 250
_LINE_EVERY_S = 1.0


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
        stop: threading.Event,
    ) -> None:
        self._plan, self._sampler, self._trainer = plan, sampler, trainer
        self._intake, self._cache, self._bank, self._metrics, self._stop = intake, cache, bank, metrics, stop
        self._codec = codec_named(plan.wire.codec)
        self._tests = sum(site.test_images for site in plan.sites)
        self.augconv_seconds = 0.0
        self.idle_seconds = 0.0
        self.samples_trained = 0

    def run(self, on_epoch: Callable[[EpochMetrics], None]) -> None:
        """Train all epochs.

        Raises:
            MpleError: A site stayed away for too long, or the intake was told to fail.
            StoppedError: The node is to stop.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as ahead:
            for epoch in range(self._plan.training.epochs):
                metrics = self._epoch(epoch, ahead)
                self._metrics.write(metrics)
                on_epoch(metrics)

    def _epoch(self, epoch: int, ahead: ThreadPoolExecutor) -> EpochMetrics:
        began = time.monotonic()
        steps = self._sampler.steps_per_epoch
        losses = np.zeros(steps)
        weights = np.zeros(steps)
        line = _LineTimer(self.idle_seconds)
        coming: Future[CachedSamples] = ahead.submit(self._samples, epoch, 0)
        for step in range(steps):
            if self._stop.is_set():
                raise StoppedError
            waited = time.monotonic()
            samples = coming.result()
            self.idle_seconds += time.monotonic() - waited
            if step + 1 < steps:
                coming = ahead.submit(self._samples, epoch, step + 1)
            losses[step] = self._train(samples)
            weights[step] = len(samples.labels_B)
            self.samples_trained += len(samples.labels_B)
            line.samples += len(samples.labels_B)
            line.losses.append(float(losses[step]))
            if line.due() or step + 1 == steps:
                self._metrics.write(self._step_metrics(epoch, step, line))
                line = _LineTimer(self.idle_seconds)
        accuracy, test_loss = self._score(epoch) if self._tests else (None, None)
        return EpochMetrics(
            epoch=epoch + 1,
            loss=float(np.average(losses, weights=weights)),
            test_accuracy=accuracy,
            test_loss=test_loss,
            seconds=time.monotonic() - began,
        )

    def _samples(self, epoch: int, step: int) -> CachedSamples:
        numbers = self._sampler.step(epoch, step)
        self._intake.wait_for(common_pb2.SPLIT_TRAIN, numbers)
        return self._cache.read(common_pb2.SPLIT_TRAIN, numbers)

    def _train(self, samples: CachedSamples) -> float:
        return self._trainer.step(self._features(samples), torch.from_numpy(samples.labels_B))

    def _features(self, samples: CachedSamples) -> torch.Tensor:
        began = time.monotonic()
        with torch.no_grad(), self._trainer.autocast():
            f_BFHW = features(samples, self._bank.layers, self._codec, self._plan.geometry)
        self.augconv_seconds += time.monotonic() - began
        return f_BFHW

    def _score(self, epoch: int) -> tuple[float, float]:
        logits_TC = np.empty((self._tests, len(self._plan.classes)), np.float32)
        for low in range(0, self._tests, _SCORED_AT_ONCE):
            if self._stop.is_set():
                raise StoppedError
            numbers: NDArray[np.int64] = np.arange(low, min(low + _SCORED_AT_ONCE, self._tests), dtype=np.int64)
            waited = time.monotonic()
            self._intake.wait_for(common_pb2.SPLIT_TEST, numbers)
            self.idle_seconds += time.monotonic() - waited
            samples = self._cache.read(common_pb2.SPLIT_TEST, numbers)
            logits_TC[numbers] = self._trainer.logits(self._features(samples)).numpy()
        waited = time.monotonic()
        scores = self._intake.scores(epoch + 1, logits_TC).values()
        self.idle_seconds += time.monotonic() - waited
        return sum(score.correct for score in scores) / self._tests, sum(s.loss_sum for s in scores) / self._tests

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


class _LineTimer:
    def __init__(self, idle_before: float) -> None:
        self.began = time.monotonic()
        self.idle_before = idle_before
        self.samples = 0
        self.losses: list[float] = []

    def due(self) -> bool:
        return time.monotonic() - self.began >= _LINE_EVERY_S
