"""What the network is measured by: each metric is a row of `METRICS`, and its name is all that anything else knows.

A site makes a tally of each metric from the network's answers and its own labels. Tallies of groups and of sites add
up, and a value is made of the sum: labels stay at their site, and no value depends on how samples were grouped. The
wire, files, screens and reports go by name, so that one more metric is one more row here. Numpy alone: sites have no
torch.

Legend: B samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEPS_PER_NAT = 2.0**24
_MOST_LOSS = 7e38
"""Cross-entropy of one sample, in nats, that finite binary32 logits can't exceed; sums of it stay finite."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and sums over samples; a metric says what each stands for."""

    counts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        """Over the samples of both."""
        return Tally(
            tuple(one + more for one, more in zip(self.counts, other.counts, strict=True)),
            tuple(one + more for one, more in zip(self.sums, other.sums, strict=True)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """How one figure is made of samples that lie at several sites."""

    tally: Callable[[NDArray[np.float64], NDArray[np.int64]], Tally]
    """From logits_BC and labels_B, both in the site's own class order."""
    value: Callable[[Tally], float | None]
    """From the sum of tallies; None where it is not defined, as over no samples."""
    lengths: Callable[[int], tuple[int, int]]
    """How many counts and sums a tally has, by C."""
    can_be: Callable[[Tally, int], bool]
    """Whether a tally of the right lengths, without negative or endless sums, can be that of B samples."""
    least: float = 0.0
    most: float = math.inf
    """Range of values."""
    brief: bool = True
    """Whether sentences name it; tables, charts and files have every metric."""


def _accuracy(logits_BC: NDArray[np.float64], labels_B: NDArray[np.int64]) -> Tally:
    return Tally(counts=(len(labels_B), int((logits_BC.argmax(axis=1) == labels_B).sum())))


def _loss(logits_BC: NDArray[np.float64], labels_B: NDArray[np.int64]) -> Tally:
    below_BC = logits_BC - logits_BC.max(axis=1, keepdims=True)
    losses_B = np.log(np.exp(below_BC).sum(axis=1)) - below_BC[np.arange(len(labels_B)), labels_B]
    # Sums of such multiples are exact: a total is the same in whatever order, and in whatever groups, samples came.
    return Tally(counts=(len(labels_B),), sums=(float(np.round(losses_B * _STEPS_PER_NAT).sum() / _STEPS_PER_NAT),))


METRICS: Mapping[str, Metric] = {
    # Share of samples whose likeliest class is their own; counts: samples, right ones.
    "accuracy": Metric(
        tally=_accuracy,
        value=lambda tally: tally.counts[1] / tally.counts[0] if tally.counts[0] else None,
        lengths=lambda classes: (2, 0),
        can_be=lambda tally, samples: tally.counts[0] == samples >= tally.counts[1],
        most=1.0,
    ),
    # Mean cross-entropy in nats; count: samples, sum: their cross-entropies.
    "loss": Metric(
        tally=_loss,
        value=lambda tally: tally.sums[0] / tally.counts[0] if tally.counts[0] else None,
        lengths=lambda classes: (1, 1),
        can_be=lambda tally, samples: tally.counts[0] == samples and tally.sums[0] <= samples * _MOST_LOSS,
        brief=False,
    ),
}


def tallies(logits_BC: NDArray[np.float64], labels_B: NDArray[np.int64]) -> dict[str, Tally]:
    """One tally for each metric."""
    return {name: metric.tally(logits_BC, labels_B) for name, metric in METRICS.items()}


def merged(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The sums of tallies, by metric."""
    sums: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            sums[name] = sums[name] + tally if name in sums else tally
    return sums


def values(sums: Mapping[str, Tally]) -> dict[str, float]:
    """The metrics that have a value, by name: a score that is not there was not made."""
    found = {name: METRICS[name].value(tally) for name, tally in sums.items()}
    return {name: value for name, value in found.items() if value is not None}


def require_tallies(told: Mapping[str, Tally], *, samples: int, classes: int) -> None:
    """Check what another party says are its tallies of so many samples.

    Raises ValueError: a metric is unknown or missing, or its tally can't be; the text names it.
    """
    if told.keys() != METRICS.keys():
        names = ", ".join(sorted(told)) or "nothing"
        raise ValueError(f"tallies of {names[:200]}; due are {', '.join(METRICS)}")
    for name, tally in told.items():
        lengths = len(tally.counts), len(tally.sums)
        due = METRICS[name].lengths(classes)
        if lengths != due:
            raise ValueError(f"the tally of {name} has {lengths[0]} counts and {lengths[1]} sums; due are {due}")
        sound = min(tally.counts, default=0) >= 0 and all(0 <= one < math.inf for one in tally.sums)
        if not sound or not METRICS[name].can_be(tally, samples):
            raise ValueError(f"the tally of {name} over {samples} samples can't be {tally.counts[:8]} {tally.sums[:8]}")


def require_scores(scores: Mapping[str, float]) -> None:
    """Check values that another party has made.

    Raises ValueError: a metric is unknown, or its value is beyond its range, NaN or infinite.
    """
    for name, value in scores.items():
        if name not in METRICS:
            raise ValueError(f"a score named {name[:50]!r}; known are {', '.join(METRICS)}")
        metric = METRICS[name]
        if not (metric.least <= value <= metric.most and math.isfinite(value)):
            raise ValueError(f"{name} = {value}; allowed are {metric.least:g} to {metric.most:g}")


def score_text(name: str, scores: Mapping[str, float]) -> str:
    """One score in four digits: "0.7216"."""
    return f"{scores[name]:.4f}" if name in scores else "not scored"


def scores_text(scores: Mapping[str, float]) -> str:
    """The scores that sentences name: "test accuracy 0.7216"."""
    return ", ".join(f"test {name} {score_text(name, scores)}" for name, metric in METRICS.items() if metric.brief)


def summary_scores(scores: Mapping[str, float]) -> dict[str, float | None]:
    """The scores of every metric as summaries name them, `test_accuracy` and so on; None where there is none."""
    return {f"test_{name}": scores.get(name) for name in METRICS}
