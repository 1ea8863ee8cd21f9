"""Validation and test samples through the network, each rank its own, and their scores from the sites to rank 0.

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
from compute_node.ranks import Ranks
from compute_node.run_samples import RunSamples
from compute_node.training.features import features
from compute_node.training.read_ahead import ReadAhead, ReadySamples, Wanted
from compute_node.training.trainer_time import TrainerTime, Use
from mple.disk.json_records import record_from_json, record_to_json
from mple.metrics import Tally, merged, values
from mple.model.training import TrunkTrainer
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from mple.v1 import common_pb2

_AT_ONCE = 250
"""Samples of a rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What the sites make of a network's answers."""

    tallies: Mapping[str, Mapping[str, Tally]] = field(default_factory=dict)
    """By site and name; at rank 0 alone."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Over the samples of all sites that scored, by metric; at every rank, as the rest."""
    silent: tuple[str, ...] = ()
    """Sites with samples of the split that did not score."""
    seconds: float = 0.0
    waited_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    values: Mapping[str, float]
    silent: tuple[str, ...]


class NetworkScoring:
    """One plan's samples for the trainer, as features and as scores."""

    def __init__(
        self, samples: RunSamples, trainer: TrunkTrainer, ahead: ReadAhead, spent: TrainerTime, stop: Stop, ranks: Ranks
    ) -> None:
        self._plan, self._intake, self._bank = samples.plan, samples.intake, samples.bank
        self._trainer, self._ahead, self._time, self._stop, self._ranks = trainer, ahead, spent, stop, ranks
        sites = samples.plan.sites
        self._images = {
            common_pb2.SPLIT_VAL: {site.name: site.val_images for site in sites},
            common_pb2.SPLIT_TEST: {site.name: site.test_images for site in sites},
        }

    def wanted(self, split: common_pb2.Split) -> Iterator[Wanted]:
        """What `score` takes, in its order."""
        own = self._ranks.share.numbers(sum(self._images[split].values()))
        for low in range(0, len(own), _AT_ONCE):
            yield Wanted(split, own[low : low + _AT_ONCE])

    def score(self, split: common_pb2.Split, epoch: int, coming: Iterator[Future[ReadySamples]]) -> Scored:
        """Have the sites score the network as it is now, after an epoch counted from 1; all ranks do it together.

        Raises MpleError: as `Intake.scores`; DivergenceError: the network answers with NaN or infinity; StoppedError:
        the node is to stop; RankEndedError: as `RankGroup`.
        """
        images = self._images[split]
        total = sum(images.values())
        if not total:
            return Scored()
        began = time.monotonic()
        with self._time.spent(Use.RANKS):
            self._ranks.take_one_network(self._trainer.trunk)
        logits_TC = np.empty((total, len(self._plan.classes)), np.float32)
        scored_T = np.zeros(total, np.bool_)
        for _ in self.wanted(split):
            scored_T[self._logits(self.next(coming), logits_TC)] = True
        self._gather(logits_TC, scored_T)
        waited = time.monotonic()
        found = self._sites_scores(split, epoch, logits_TC, scored_T)
        tallies = {site: found[site] for site, count in images.items() if count and site in found}
        told = _Told(
            values=values(merged(tallies.values()), self._plan.outputs),
            silent=tuple(site for site, count in images.items() if count and site not in found),
        )
        with self._time.spent(Use.RANKS):
            text = self._ranks.trainer.broadcast(record_to_json(told).encode()).decode()
        told = record_from_json(_Told, text, "what rank 0 says of the scores")
        ended = time.monotonic()
        return Scored(
            tallies=tallies,
            values=told.values,
            silent=told.silent,
            seconds=ended - began,
            waited_seconds=ended - waited,
        )

    def _gather(self, logits_TC: NDArray[np.float32], scored_T: NDArray[np.bool_]) -> None:
        """Fill in, at rank 0, the rows of all others."""
        ranks = self._ranks.share.ranks
        own = slice(self._ranks.share.rank, None, ranks)
        if ranks == 1:
            return
        mine = scored_T[own].tobytes() + logits_TC[own].astype("<f4").tobytes()
        with self._time.spent(Use.RANKS):
            of_all = self._ranks.trainer.collect(mine)
        for rank, theirs in enumerate(of_all):
            rows = len(scored_T[rank::ranks])
            scored_T[rank::ranks] = np.frombuffer(theirs, np.bool_, rows)
            logits_TC[rank::ranks] = np.frombuffer(theirs, "<f4", offset=rows).reshape(rows, -1)

    def _sites_scores(
        self, split: common_pb2.Split, epoch: int, logits_TC: NDArray[np.float32], scored_T: NDArray[np.bool_]
    ) -> dict[str, dict[str, Tally]]:
        if not self._ranks.trainer.leads:
            return {}
        with self._time.spent(Use.SCORES):
            return self._intake.scores(split, epoch, logits_TC, scored_T)

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

    def no_features(self) -> torch.Tensor:
        """Features of a picture that holds nothing, for a rank that has none."""
        image = self._plan.image
        return self._trainer.device.place(torch.zeros(1, self._plan.filters, image.height, image.width))

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
