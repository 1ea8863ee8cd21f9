"""The values by which a network is judged, each a row of the table `METRICS`, made of tallies.

The wire, files, screens and reports go by name, so that one more metric is one more row here. A value whose tally was
not made, or that is not defined, as a sensitivity without a positive, is not there: it is never 0 for want of samples.

Legend: C classes or labels, K bins; arrays may have axes of repetitions before those that a docstring names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.metrics.outputs import Outputs
from mple.metrics.tallies import Tally, counts_of

Floats = NDArray[np.float64]
Counts = NDArray[np.int64] | NDArray[np.float64]
"""Whole numbers, or means of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """How one value is made of a tally."""

    tally: str
    """The one that it needs."""
    by_class: Callable[[Counts, Outputs], Floats] | None = None
    """Its value for each class, from the tally's counts in their shape; NaN where it is not defined. The metric is the
    mean of those that are."""
    at_threshold: Callable[[Counts, Outputs, NDArray[np.int64]], Floats] | None = None
    """The same, from thresholds too: for each class the place of an edge among `Outputs.edges`, -1 for none."""
    whole: Callable[[Counts, Floats], Floats] | None = None
    """Of a metric without values by class: its value from counts and sums."""
    higher_is_better: bool = True
    least: float = 0.0
    most: float = 1.0
    """Range of values."""
    leans: bool = False
    """Whether draws of as many samples are larger on the average than the value: noise adds to distances."""
    brief: bool = False
    """Whether sentences name it; tables, charts and files have every metric."""


def share(part: Counts, whole: Counts) -> Floats:
    """Part of a whole, NaN of nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def two_by_two(counts: Counts, outputs: Outputs) -> Counts:
    """For each class: rightly not said, wrongly said, wrongly not said, rightly said; (C, 4) from a confusion."""
    if outputs.several:
        return counts
    hit_C = np.diagonal(counts, axis1=-2, axis2=-1)
    true_C, said_C = counts.sum(axis=-1), counts.sum(axis=-2)
    rest_C = true_C.sum(axis=-1, keepdims=True) - true_C - said_C + hit_C
    return np.stack([rest_C, said_C - hit_C, true_C - hit_C, hit_C], axis=-1)


def _recall(counts: Counts, outputs: Outputs) -> Floats:
    rejected, wrong, missed, hit = np.moveaxis(two_by_two(counts, outputs), -1, 0)
    sensitivity = share(hit, hit + missed)
    return (sensitivity + share(rejected, rejected + wrong)) / 2 if outputs.several else sensitivity


def _f1(counts: Counts, outputs: Outputs) -> Floats:
    _, wrong, missed, hit = np.moveaxis(two_by_two(counts, outputs), -1, 0)
    return np.where(hit + missed > 0, share(2 * hit, 2 * hit + wrong + missed), np.nan)


def _auroc(counts: Counts, outputs: Outputs) -> Floats:
    """The chance that a positive scores above a negative, one in the same bin counted half."""
    positive, negative = counts[..., 0, :].astype(np.float64), counts[..., 1, :].astype(np.float64)
    below = negative.cumsum(axis=-1) - negative / 2
    return share((positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1))


def _average_precision(counts: Counts, outputs: Outputs) -> Floats:
    """Precisions in the middle of each bin's positives, weighted by the share of positives in it."""
    positive, negative = counts[..., 0, ::-1].astype(np.float64), counts[..., 1, ::-1].astype(np.float64)
    hits = positive.cumsum(axis=-1) - (positive - 1) / 2
    precision = hits / (hits + negative.cumsum(axis=-1) - negative / 2)
    return share(np.where(positive > 0, positive * precision, 0.0).sum(axis=-1), positive.sum(axis=-1))


def _half(counts: Counts, outputs: Outputs) -> NDArray[np.int64]:
    """For each class the edge of probability 0.5."""
    return np.full(counts.shape[-3], outputs.half)


def _above(counts: Counts, outputs: Outputs, edges_C: NDArray[np.int64]) -> tuple[Counts, Counts]:
    """For each class how many (positives, negatives) score at an edge or above it, and how many there are; (C, 2)."""
    lowest_C1 = (edges_C + 1)[:, None]
    falling = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
    above = np.take_along_axis(falling, np.broadcast_to(lowest_C1, falling.shape[:-1])[..., None], axis=-1)[..., 0]
    return above, counts.sum(axis=-1)


def _sensitivity(counts: Counts, outputs: Outputs, edges_C: NDArray[np.int64]) -> Floats:
    above, all_of = _above(counts, outputs, edges_C)
    return np.where(edges_C >= 0, share(above[..., 0], all_of[..., 0]), np.nan)


def _specificity(counts: Counts, outputs: Outputs, edges_C: NDArray[np.int64]) -> Floats:
    above, all_of = _above(counts, outputs, edges_C)
    return np.where(edges_C >= 0, share(all_of[..., 1] - above[..., 1], all_of[..., 1]), np.nan)


def _ece(counts: Counts, sums: Floats) -> Floats:
    """Mean distance of probability and frequency over the bins, weighted by how many are in each."""
    gaps = np.abs(counts[..., 1, :] - sums)
    return share(gaps.sum(axis=-1), counts[..., 0, :].sum(axis=-1))


METRICS: Mapping[str, Metric] = {
    # Share of right answers: of classes the likeliest one, of labels each known one at probability 0.5.
    "accuracy": Metric(tally="counts", whole=lambda counts, sums: share(counts[..., 1], counts[..., 0]), brief=True),
    # Of classes the share of each one's samples that were taken for it; of labels the mean of sensitivity and
    # specificity at probability 0.5.
    "balanced_accuracy": Metric(tally="confusion", by_class=_recall),
    # Area under the receiver operating characteristic, one class against the rest.
    "auroc": Metric(tally="scores", by_class=_auroc),
    # Area under precision over recall, as a step function.
    "average_precision": Metric(tally="scores", by_class=_average_precision),
    # Harmonic mean of precision and recall: of classes by the likeliest one, of labels at probability 0.5.
    "f1": Metric(tally="confusion", by_class=_f1),
    # Share of positives, and of negatives, that are told as such: at probability 0.5, then at thresholds.
    "sensitivity": Metric(
        tally="scores", by_class=lambda counts, outputs: _sensitivity(counts, outputs, _half(counts, outputs))
    ),
    "specificity": Metric(
        tally="scores", by_class=lambda counts, outputs: _specificity(counts, outputs, _half(counts, outputs))
    ),
    "sensitivity_at_threshold": Metric(tally="scores", at_threshold=_sensitivity),
    "specificity_at_threshold": Metric(tally="scores", at_threshold=_specificity),
    # Expected calibration error.
    "ece": Metric(tally="calibration", whole=_ece, higher_is_better=False, leans=True),
    # Mean cross-entropy in nats: of classes over samples, of labels over known entries.
    "loss": Metric(
        tally="loss",
        whole=lambda counts, sums: share(sums[..., 0], counts[..., 0]),
        higher_is_better=False,
        most=math.inf,
    ),
}


def thresholds(sums: Mapping[str, Tally], outputs: Outputs) -> NDArray[np.int64]:
    """For each class the edge among `Outputs.edges` that tells its samples from others best: with the greatest sum of
    sensitivity and specificity (Youden). Of several as good the one nearest to probability 0.5; -1 where none is known.

    Guarantees: pooled validation tallies give the same threshold at every site and at the compute node.
    """
    if "scores" not in sums:
        return np.full(outputs.count, -1)
    counts = counts_of("scores", sums["scores"], outputs)
    above = counts[..., ::-1].cumsum(axis=-1)[..., -2::-1]
    # Whole numbers, so that equal sums are equal: P x N x (sensitivity + specificity - 1).
    gain = above[:, 0] * counts[:, 1].sum(axis=-1)[:, None] - above[:, 1] * counts[:, 0].sum(axis=-1)[:, None]
    away = np.abs(np.arange(gain.shape[1]) - outputs.half)
    best_C = np.where(gain == gain.max(axis=1, keepdims=True), away, away.size).argmin(axis=1)
    return np.where((counts.sum(axis=-1) > 0).all(axis=1), best_C, -1)


def values_by_class(
    sums: Mapping[str, Tally], outputs: Outputs, at: NDArray[np.int64] | None = None
) -> dict[str, tuple[float | None, ...]]:
    """The values of every metric that has some by class, in the order of the tallies; None where it is not defined.

    Args:
        sums: Tallies by name.
        outputs: What they are of.
        at: Thresholds as `thresholds` gives them; without, metrics at thresholds have no value.
    """
    found = {}
    for name, metric in METRICS.items():
        by_class = _by_class(metric, sums, outputs, at)
        if by_class is not None:
            found[name] = tuple(None if math.isnan(value) else value for value in by_class.tolist())
    return found


def values(sums: Mapping[str, Tally], outputs: Outputs, at: NDArray[np.int64] | None = None) -> dict[str, float]:
    """The metrics that have a value, by name; arguments as of `values_by_class`, whose means they are."""
    found = {name: _value(metric, sums, outputs, at) for name, metric in METRICS.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def mean_of(by_class: Floats) -> Floats:
    """The mean over the classes that have a value; NaN where none has."""
    known = ~np.isnan(by_class)
    return share(np.where(known, by_class, 0.0).sum(axis=-1), known.sum(axis=-1))


def _value(metric: Metric, sums: Mapping[str, Tally], outputs: Outputs, at: NDArray[np.int64] | None) -> float:
    if metric.whole is not None and metric.tally in sums:
        tally = sums[metric.tally]
        return float(metric.whole(counts_of(metric.tally, tally, outputs), np.array(tally.sums)))
    by_class = _by_class(metric, sums, outputs, at)
    return math.nan if by_class is None else float(mean_of(by_class))


def _by_class(
    metric: Metric, sums: Mapping[str, Tally], outputs: Outputs, at: NDArray[np.int64] | None
) -> Floats | None:
    if metric.tally not in sums:
        return None
    counts = counts_of(metric.tally, sums[metric.tally], outputs)
    if metric.at_threshold is not None:
        return None if at is None else metric.at_threshold(counts, outputs, at)
    return None if metric.by_class is None else metric.by_class(counts, outputs)


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
