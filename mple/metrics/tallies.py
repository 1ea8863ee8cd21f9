"""What leaves a site of its validation and test pictures: tallies, counts and sums that add up over samples and sites.

No value depends on how samples were grouped: counts are whole, and sums are of multiples of a power of two. Each tally
is a row of the table `TALLIES`.

Legend: N samples, C classes or labels, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.metrics.outputs import CALIBRATION_BINS, Outputs, probabilities, scores_of, truths_of

_STEPS_PER_UNIT = 2.0**24
"""Sums of multiples of its inverse are exact: a total is the same in whatever order samples came."""
_MOST_LOSS = 7e38
"""Cross-entropy of one output, in nats, that finite binary32 logits can't exceed; sums of it stay finite."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and sums over samples; its row of `TALLIES` says what each stands for."""

    counts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        """Over the samples of both."""
        return Tally(
            tuple(one + more for one, more in zip(self.counts, other.counts, strict=True)),
            tuple(one + more for one, more in zip(self.sums, other.sums, strict=True)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TallyKind:
    """What a tally counts."""

    made: Callable[[NDArray[np.float64], NDArray[np.int64], Outputs], Tally]
    """From logits (N, C) and labels, (N) class numbers or (N, C) of 0, 1 and -1, unknown."""
    shape: Callable[[Outputs], tuple[int, ...]]
    """Of its counts; empty where there are too many classes for it."""
    class_axes: Callable[[Outputs], int] = lambda outputs: 0
    """How many axes of that shape, from the first on, run over classes."""
    sums: int = 0
    """How many sums it has."""
    can_be: Callable[[Tally, int, Outputs], bool]
    """Whether a tally of the right lengths, without negative or endless parts, can be that of N samples."""


def _counts(logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs) -> Tally:
    known = labels >= 0
    said = (logits_NC >= 0).astype(np.int64) if outputs.several else logits_NC.argmax(axis=1)
    return Tally((int(known.sum()), int((said == labels)[known].sum())))


def _loss(logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs) -> Tally:
    if outputs.several:
        known_NC = labels >= 0
        away_NC = np.where(labels == 1, -logits_NC, logits_NC)
        losses = (np.maximum(away_NC, 0.0) + np.log1p(np.exp(-np.abs(away_NC))))[known_NC]
    else:
        below_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
        losses = np.log(np.exp(below_NC).sum(axis=1)) - below_NC[np.arange(len(labels)), labels]
    return Tally((len(losses),), (_exact_sum(losses),))


def _exact_sum(values_N: NDArray[np.float64]) -> float:
    return float(np.round(values_N * _STEPS_PER_UNIT).sum() / _STEPS_PER_UNIT)


def _confusion(logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs) -> Tally:
    if not outputs.confused:
        return Tally()
    if outputs.several:
        places_NC = 4 * np.arange(outputs.count) + 2 * labels + (logits_NC >= 0)
        cells = places_NC[labels >= 0]
    else:
        cells = outputs.count * labels + logits_NC.argmax(axis=1)
    return _counted(cells, outputs.confused)


def _scores(logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs) -> Tally:
    bins = outputs.bins
    if not bins:
        return Tally()
    truths_NC = truths_of(labels, outputs)
    bins_NC = np.searchsorted(outputs.edges, scores_of(logits_NC, outputs), side="right")
    cells_NC = (2 * np.arange(outputs.count) + (1 - truths_NC)) * bins + bins_NC
    return _counted(cells_NC[truths_NC >= 0], 2 * bins * outputs.count)


def _calibration(logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs) -> Tally:
    chances_NC = probabilities(logits_NC, outputs)
    if outputs.several:
        known_NC = labels >= 0
        chances, right = chances_NC[known_NC], labels[known_NC] == 1
    else:
        chances, right = chances_NC.max(axis=1), logits_NC.argmax(axis=1) == labels
    bins = np.minimum((chances * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    counts = _counted(bins, CALIBRATION_BINS).counts + _counted(bins[right], CALIBRATION_BINS).counts
    steps = np.round(chances * _STEPS_PER_UNIT)
    sums = np.bincount(bins, steps, CALIBRATION_BINS) / _STEPS_PER_UNIT
    return Tally(counts, tuple(sums.tolist()))


def _counted(cells: NDArray[np.int64], length: int) -> Tally:
    return Tally(tuple(np.bincount(cells, minlength=length).tolist()))


def _entries(samples: int, outputs: Outputs) -> int:
    """How many outputs are judged, at most."""
    return samples * outputs.count if outputs.several else samples


def _whole(told: int, samples: int, outputs: Outputs) -> bool:
    """Whether so many judged outputs can be those of so many samples; labels may be unknown."""
    return told <= samples * outputs.count if outputs.several else told == samples


def _confusion_can_be(tally: Tally, samples: int, outputs: Outputs) -> bool:
    by_class = np.reshape(tally.counts, (outputs.count, -1)) if tally.counts else np.zeros((1, 1), np.int64)
    return int(by_class.sum(axis=1).max() if outputs.several else by_class.sum()) <= samples


def _scores_can_be(tally: Tally, samples: int, outputs: Outputs) -> bool:
    return not tally.counts or int(np.reshape(tally.counts, (outputs.count, -1)).sum(axis=1).max()) <= samples


def _calibration_can_be(tally: Tally, samples: int, outputs: Outputs) -> bool:
    counts, right = np.reshape(tally.counts, (2, CALIBRATION_BINS))
    # A sum of rounded probabilities may be half a step above the count for each of them.
    sums_fit = bool((np.array(tally.sums) <= counts * (1.0 + 1.0 / _STEPS_PER_UNIT)).all())
    return _whole(int(counts.sum()), samples, outputs) and bool((right <= counts).all()) and sums_fit


TALLIES: Mapping[str, TallyKind] = {
    # Judged outputs, right ones: of classes a sample's likeliest class, of labels each known one at probability 0.5.
    "counts": TallyKind(
        made=_counts,
        shape=lambda outputs: (2,),
        can_be=lambda tally, samples, outputs: (
            _whole(tally.counts[0], samples, outputs) and tally.counts[1] <= tally.counts[0]
        ),
    ),
    # Judged outputs; the sum of their cross-entropies in nats.
    "loss": TallyKind(
        made=_loss,
        shape=lambda outputs: (1,),
        sums=1,
        can_be=lambda tally, samples, outputs: (
            _whole(tally.counts[0], samples, outputs) and tally.sums[0] <= tally.counts[0] * _MOST_LOSS
        ),
    ),
    # Of classes a row for each true class, a column for each that was said. Of labels for each: absent and so said,
    # absent but said to be there, there but said to be absent, there and so said; at probability 0.5.
    "confusion": TallyKind(
        made=_confusion,
        shape=lambda outputs: (
            ((outputs.count, 4) if outputs.several else (outputs.count,) * 2) if outputs.confused else ()
        ),
        class_axes=lambda outputs: 1 if outputs.several else 2,
        can_be=_confusion_can_be,
    ),
    # For each class histograms of its log-odds over `Outputs.edges`: of samples that are of it, of those that aren't.
    "scores": TallyKind(
        made=_scores,
        shape=lambda outputs: (outputs.count, 2, outputs.bins) if outputs.bins else (),
        class_axes=lambda outputs: 1,
        can_be=_scores_can_be,
    ),
    # Over bins of probability, of classes that of the likeliest one, of labels that of each known one: how many, how
    # many of them are right, or have the label; the sums of the probabilities.
    "calibration": TallyKind(
        made=_calibration,
        shape=lambda outputs: (2, CALIBRATION_BINS),
        sums=CALIBRATION_BINS,
        can_be=_calibration_can_be,
    ),
}


def tallies(
    logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs, names: Iterable[str] = TALLIES
) -> dict[str, Tally]:
    """Those tallies of samples that there are for so many classes.

    Args:
        logits_NC: Finite.
        labels: (N) class numbers; of labels (N, C) of 0, 1 and -1 for unknown.
        outputs: What the columns stand for.
        names: Which ones.
    """
    return {name: TALLIES[name].made(logits_NC, labels, outputs) for name in names if TALLIES[name].shape(outputs)}


def merged(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The sums of tallies, by name."""
    sums: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            sums[name] = sums[name] + tally if name in sums else tally
    return sums


def counts_of(name: str, tally: Tally, outputs: Outputs) -> NDArray[np.int64]:
    """The counts of a tally in the shape that its row says."""
    return np.reshape(np.array(tally.counts, np.int64), TALLIES[name].shape(outputs))


def reordered(told: Mapping[str, Tally], order: NDArray[np.int64], outputs: Outputs) -> dict[str, Tally]:
    """The tallies with class `order[j]` in place j; `np.argsort(order)` undoes it."""

    def moved(name: str, tally: Tally) -> Tally:
        counts = counts_of(name, tally, outputs)
        for axis in range(TALLIES[name].class_axes(outputs)):
            counts = counts.take(order, axis=axis)
        return Tally(tuple(counts.ravel().tolist()), tally.sums)

    return {name: moved(name, tally) for name, tally in told.items()}


def require_tallies(
    told: Mapping[str, Tally], *, samples: int, outputs: Outputs, due: Iterable[str] = TALLIES, some: bool = False
) -> None:
    """Check what another party says are its tallies of so many samples; any of those that are due may be missing. With
    `some` they may be of fewer samples: sums over sites, some of which have withheld theirs.

    Raises ValueError: a tally is not due, or can't be; the text names it.
    """
    known = [name for name in due if TALLIES[name].shape(outputs)]
    for name, tally in told.items():
        if name not in known:
            raise ValueError(f"a tally named {name[:50]!r}; due are {', '.join(known)}")
        lengths, fit = (
            (len(tally.counts), len(tally.sums)),
            (math.prod(TALLIES[name].shape(outputs)), TALLIES[name].sums),
        )
        if lengths != fit:
            raise ValueError(f"the tally of {name} has {lengths[0]} counts and {lengths[1]} sums; due are {fit}")
        most = samples * outputs.count
        sound = 0 <= min(tally.counts) <= max(tally.counts) <= most and all(0 <= one < math.inf for one in tally.sums)
        of = min(samples, _judged(name, tally)) if some and not outputs.several else samples
        if not sound or not TALLIES[name].can_be(tally, of, outputs):
            raise ValueError(f"the tally of {name} over {samples} samples can't be {tally.counts[:8]} {tally.sums[:8]}")


def _judged(name: str, tally: Tally) -> int:
    """How many samples a tally of classes is of."""
    cells = {"counts": 1, "loss": 1, "calibration": CALIBRATION_BINS}.get(name)
    return sum(tally.counts[:cells]) if cells else sum(tally.counts)
