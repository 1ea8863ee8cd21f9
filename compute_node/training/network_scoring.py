"""Validation and test samples through the network, and their scores from the sites.

Legend: T samples of a split over all sites, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from compute_node.layers.layer_bank import ErasedKeyError
from compute_node.run_samples import RunSamples
from compute_node.training.features import features
from compute_node.training.read_ahead import ReadAhead, ReadySamples, Wanted
from compute_node.training.trainer_time import TrainerTime, Use
from mple.metrics import Tally
from mple.model.training import TrunkTrainer
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from mple.v1 import common_pb2

_AT_ONCE = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What the sites make of a network's answers."""

    tallies: Mapping[str, Mapping[str, Tally]] = field(default_factory=dict)
    """By site and name."""
    silent: tuple[str, ...] = ()
    """Sites with samples of the split that did not score."""
    seconds: float = 0.0
    waited_seconds: float = 0.0


class NetworkScoring:
    """One plan's samples for the trainer, as features and as scores."""

    def __init__(
        self, samples: RunSamples, trainer: TrunkTrainer, ahead: ReadAhead, spent: TrainerTime, stop: Stop
    ) -> None:
        self._plan, self._intake, self._bank = samples.plan, samples.intake, samples.bank
        self._trainer, self._ahead, self._time, self._stop = trainer, ahead, spent, stop
        sites = samples.plan.sites
        self._images = {
            common_pb2.SPLIT_VAL: {site.name: site.val_images for site in sites},
            common_pb2.SPLIT_TEST: {site.name: site.test_images for site in sites},
        }

    def wanted(self, split: common_pb2.Split) -> Iterator[Wanted]:
        """What `score` takes, in its order."""
        total = sum(self._images[split].values())
        for low in range(0, total, _AT_ONCE):
            yield Wanted(split, np.arange(low, min(low + _AT_ONCE, total), dtype=np.int64))

    def score(self, split: common_pb2.Split, epoch: int, coming: Iterator[Future[ReadySamples]]) -> Scored:
        """Have the sites score the network as it is now, after an epoch counted from 1.

        Raises MpleError: as `Intake.scores`; DivergenceError: the network answers with NaN or infinity; StoppedError:
        the node is to stop.
        """
        images = self._images[split]
        total = sum(images.values())
        if not total:
            return Scored()
        began = time.monotonic()
        logits_TC = np.empty((total, len(self._plan.classes)), np.float32)
        scored_T = np.zeros(total, np.bool_)
        for _ in range(0, total, _AT_ONCE):
            scored_T[self._logits(self.next(coming), logits_TC)] = True
        waited = time.monotonic()
        with self._time.spent(Use.SCORES):
            found = self._intake.scores(split, epoch, logits_TC, scored_T)
        ended = time.monotonic()
        return Scored(
            tallies={site: found[site] for site, count in images.items() if count and site in found},
            silent=tuple(site for site, count in images.items() if count and site not in found),
            seconds=ended - began,
            waited_seconds=ended - waited,
        )

    def next(self, coming: Iterator[Future[ReadySamples]]) -> ReadySamples:
        """The next samples. Raises MpleError: as `Intake.wait_for`; StoppedError: the node is to stop."""
        if self._stop.is_set():
            raise StoppedError
        with self._time.spent(Use.SAMPLES):
            return next(coming).result()

    def again(self, samples: ReadySamples) -> ReadySamples:
        """The same samples, as they are after a key was revoked."""
        with self._time.spent(Use.SAMPLES):
            return self._ahead.read(samples.wanted)

    def features(self, samples: ReadySamples) -> torch.Tensor:
        """Features of the first layer. Raises ErasedKeyError: a key was revoked since the samples were read."""
        with self._time.spent(Use.FIRST_LAYER), torch.no_grad(), self._trainer.autocast():
            return features(samples.t_BKQ, samples.keys_B, self._bank.layers)

    def _logits(self, samples: ReadySamples, logits_TC: NDArray[np.float32]) -> NDArray[np.int64]:
        """Fill in the rows of the samples that are here, and return their numbers."""
        while len(samples.numbers):
            try:
                logits_TC[samples.numbers] = self._trainer.logits(self.features(samples)).numpy()
            except ErasedKeyError:
                samples = self.again(samples)
                continue
            break
        return samples.numbers
