"""What a site makes of its own logits and labels: every metric exactly, and its 95 % interval.

Intervals are of the bootstrap: the metrics of many draws of as many samples, with replacement, by a seed of their own;
those of areas under the ROC curve by class are DeLong's. A metric that is not defined, as without a positive, is None.

Legend: N samples, C classes or labels, D draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.metrics.delong import Interval, auroc
from mple.metrics.outputs import CALIBRATION_BINS, Outputs, probabilities, scores_of, truths_of
from mple.metrics.values import METRICS, mean_of, share

Floats = NDArray[np.float64]
_MOST_DRAWS, _LEAST_DRAWS = 1000, 200
_WORK, _MOST_WORTH = 5 * 10**7, 2 * 10**7
"""Samples x classes x draws that are worth an interval; samples x classes of which none is drawn any more."""
_AT_ONCE, _LEAST_AT_ONCE = 2**18, 16
"""Samples x draws in memory, and draws at least: all classes are sorted anew for each part."""
_LEAST_SORTED, _SORTED = 16, 2**14
"""Of these draws, at least so many that areas are made of together, and of samples x draws about so many."""
_SEED = 15
_ENDS = (0.025, 0.975)
"""Quantiles of the draws between which an interval lies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exact:
    """A metric of one site's samples."""

    value: float | None
    """Of all classes: the mean over those that have one, or that of all outputs."""
    interval: Interval | None = None
    by_class: tuple[float | None, ...] | None = None
    """None where a metric has no values by class."""
    intervals: tuple[Interval | None, ...] | None = None


def draws_for(samples: int, outputs: Outputs) -> int:
    """How many draws an interval over so many samples is made of: 1000, down to 200 of large sets, and none where
    twenty million scores would take minutes, and intervals are narrow."""
    scores = samples * outputs.count
    return min(_MOST_DRAWS, max(_LEAST_DRAWS, _WORK // max(1, scores))) if scores <= _MOST_WORTH else 0


def exact_values(
    logits_NC: Floats, labels: NDArray[np.int64], outputs: Outputs, at_C: Floats | None = None
) -> dict[str, Exact]:
    """Every metric, by name, those at thresholds only where these are given.

    Args:
        logits_NC: Finite, in the site's own class order.
        labels: As of `mple.metrics.tallies`.
        outputs: What the columns stand for.
        at_C: For each class the log-odds from which on it is said; NaN for none.
    """
    samples = _Samples.of(logits_NC, labels, outputs, at_C)
    if not samples.size:
        return {name: Exact(value=None) for name in METRICS}
    once = samples.judged(np.ones((1, samples.size)))
    drawn = [samples.judged(weights_DN) for weights_DN in _weights(samples.size, draws_for(samples.size, outputs))]
    found = {}
    for name, value_1X in once.items():
        draws_DX = np.concatenate([value_1X[:0], *(one[name] for one in drawn)])
        if METRICS[name].whole is not None:
            found[name] = Exact(
                value=_number(value_1X[0]), interval=interval_of(value_1X[0], draws_DX, METRICS[name].leans)
            )
            continue
        found[name] = Exact(
            value=_number(mean_of(value_1X)[0]),
            interval=interval_of(mean_of(value_1X)[0], mean_of(draws_DX)),
            by_class=tuple(map(_number, value_1X[0])),
            intervals=() if name == "auroc" else _intervals(value_1X[0], draws_DX),
        )
    by_delong = [auroc(samples.scores_NC[is_C, c], samples.scores_NC[not_C, c]) for c, (is_C, not_C) in samples.split()]
    found["auroc"] = Exact(
        value=found["auroc"].value,
        interval=found["auroc"].interval,
        by_class=tuple(value for value, _ in by_delong),
        intervals=tuple(interval for _, interval in by_delong),
    )
    return found


def _weights(samples: int, draws: int) -> Iterator[Floats]:
    """How often each sample is in each draw, some draws at a time."""
    rng = np.random.Generator(np.random.PCG64(_SEED))
    rows = max(1, min(draws, max(_LEAST_AT_ONCE, _AT_ONCE // samples)))
    for low in range(0, draws, rows):
        count = min(rows, draws - low)
        cells = rng.integers(0, samples, (count, samples)) + samples * np.arange(count)[:, None]
        yield np.bincount(cells.ravel(), minlength=count * samples).reshape(count, samples).astype(np.float32)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def interval_of(value: float, draws_D: Floats, leaning: bool = False) -> Interval | None:
    """The middle 95 % of the draws that are defined; None without them, or where the value itself is NaN. Draws that
    lean to one side are moved until their mean is the value, but not below 0."""
    known_D = draws_D[~np.isnan(draws_D)]
    if np.isnan(value) or not len(known_D):
        return None
    if leaning:
        known_D = np.maximum(known_D + (value - known_D.mean()), 0.0)
    low, high = np.quantile(known_D, _ENDS)
    return float(low), float(high)


def _intervals(values_C: Floats, draws_DC: Floats) -> tuple[Interval | None, ...]:
    """`interval_of` each class: of all at once those whose draws are all defined, as nearly always."""
    whole_C = ~(np.isnan(values_C) | np.isnan(draws_DC).any(axis=0)) & bool(len(draws_DC))
    low_high_2C = np.full((2, len(values_C)), np.nan)
    if whole_C.any():
        low_high_2C[:, whole_C] = np.quantile(draws_DC[:, whole_C], _ENDS, axis=0)
    return tuple(
        (float(low), float(high)) if whole else interval_of(value, draws_D)
        for whole, low, high, value, draws_D in zip(whole_C, *low_high_2C, values_C, draws_DC.T, strict=True)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Samples:
    """What any weighting of the samples is judged by."""

    outputs: Outputs
    scores_NC: Floats
    truths_NC: NDArray[np.int64]
    said_NC: NDArray[np.bool_]
    right_N: Floats
    """Right outputs of each sample, of `judged_N`."""
    judged_N: Floats
    loss_N: Floats
    gaps_NK: Floats
    """By bin of probability, how much more often the outputs of a sample are right than they are said to be."""
    at_C: Floats | None

    @classmethod
    def of(cls, logits_NC: Floats, labels: NDArray[np.int64], outputs: Outputs, at_C: Floats | None) -> _Samples:
        scores_NC, truths_NC = scores_of(logits_NC, outputs), truths_of(labels, outputs)
        chances_NC = probabilities(logits_NC, outputs)
        if outputs.several:
            said_NC, known_NC = logits_NC >= 0, labels >= 0
        else:
            said_NC = logits_NC.argmax(axis=1)[:, None] == np.arange(outputs.count)
            known_NC = said_NC  # of classes the likeliest one is judged
        away_NC = np.where(truths_NC == 1, -scores_NC, scores_NC)
        losses_NC = np.maximum(away_NC, 0.0) + np.log1p(np.exp(-np.abs(away_NC)))
        bins_NC = np.minimum((chances_NC * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        gaps_NC = ((truths_NC == 1) - chances_NC) * known_NC
        rows, _ = np.nonzero(known_NC)
        cells = rows * CALIBRATION_BINS + bins_NC[known_NC]
        gaps_NK = np.bincount(cells, gaps_NC[known_NC], CALIBRATION_BINS * len(logits_NC)).astype(np.float64)
        return cls(
            outputs=outputs,
            scores_NC=scores_NC,
            truths_NC=truths_NC,
            said_NC=said_NC,
            right_N=(known_NC & (said_NC == (truths_NC == 1))).sum(axis=1).astype(np.float64),
            judged_N=known_NC.sum(axis=1).astype(np.float64),
            loss_N=(losses_NC * (known_NC if outputs.several else truths_NC == 1)).sum(axis=1),
            gaps_NK=gaps_NK.reshape(-1, CALIBRATION_BINS),
            at_C=at_C,
        )

    @property
    def size(self) -> int:
        return len(self.judged_N) if self.judged_N.any() else 0

    def split(self) -> Iterator[tuple[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
        """Of each class, which samples are of it and which are not."""
        for place in range(self.outputs.count):
            yield place, (self.truths_NC[:, place] == 1, self.truths_NC[:, place] == 0)

    def judged(self, weights_DN: Floats) -> dict[str, Floats]:
        """The metrics of each weighting: (D), or (D, C) of those by class."""
        judged_D = weights_DN @ self.judged_N
        missed_DC, hit_DC, rejected_DC, wrong_DC = self._told(weights_DN, self.said_NC)
        recall_DC = share(hit_DC, hit_DC + missed_DC)
        if self.outputs.several:
            recall_DC = (recall_DC + share(rejected_DC, rejected_DC + wrong_DC)) / 2
        f1_DC = share(2 * hit_DC, 2 * hit_DC + wrong_DC + missed_DC)
        found = {
            "accuracy": share(weights_DN @ self.right_N, judged_D),
            "balanced_accuracy": recall_DC,
            **self._areas(weights_DN),
            "f1": np.where(hit_DC + missed_DC > 0, f1_DC, np.nan),
            **self._at(weights_DN, np.zeros(self.outputs.count), ""),
            "ece": share(np.abs(weights_DN @ self.gaps_NK).sum(axis=1), judged_D),
            "loss": share(weights_DN @ self.loss_N, judged_D),
        }
        return found if self.at_C is None else {**found, **self._at(weights_DN, self.at_C, "_at_threshold")}

    def _told(self, weights_DN: Floats, said_NC: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
        """Weights of positives that are missed, that are hit; of negatives that are rejected, that are taken for it."""
        is_NC, not_NC = self.truths_NC == 1, self.truths_NC == 0
        cells = (is_NC & ~said_NC, is_NC & said_NC, not_NC & ~said_NC, not_NC & said_NC)
        missed, hit, rejected, wrong = (weights_DN @ cell_NC.astype(weights_DN.dtype) for cell_NC in cells)
        return missed, hit, rejected, wrong

    def _at(self, weights_DN: Floats, at_C: Floats, name: str) -> dict[str, Floats]:
        missed, hit, rejected, wrong = self._told(weights_DN, self.scores_NC >= at_C)
        without = np.where(np.isnan(at_C), np.nan, 0.0)
        return {
            f"sensitivity{name}": share(hit, hit + missed) + without,
            f"specificity{name}": share(rejected, rejected + wrong) + without,
        }

    def _areas(self, weights_DN: Floats) -> dict[str, Floats]:
        weights_ND = np.ascontiguousarray(weights_DN.T)
        draws = max(_LEAST_SORTED, _SORTED // len(weights_ND))
        areas, precisions = [], []
        for place, (is_N, not_N) in self.split():
            known = np.flatnonzero(is_N | not_N)
            falling = known[np.argsort(-self.scores_NC[known, place], kind="stable")]
            scores = self.scores_NC[falling, place]
            begins = np.flatnonzero(np.diff(scores, prepend=np.inf))
            found = [
                _areas_of(weights_ND[falling, low : low + draws], is_N[falling], begins)
                for low in range(0, len(weights_DN), draws)
            ]
            areas.append(np.concatenate([area for area, _ in found]))
            precisions.append(np.concatenate([precision for _, precision in found]))
        return {"auroc": np.stack(areas, axis=1), "average_precision": np.stack(precisions, axis=1)}


def _areas_of(weights_ND: Floats, is_N: NDArray[np.bool_], begins: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Areas under the ROC curve and average precisions (D) of one class; rows by falling score, of which equal ones
    begin at `begins`."""
    more = _added(weights_ND * is_N[:, None], begins)
    less = _added(weights_ND, begins) - more
    hits, wrong = more.cumsum(axis=0), less.cumsum(axis=0)
    positives, negatives = more.sum(axis=0), less.sum(axis=0)
    precision = hits / np.maximum(hits + wrong, 1)
    area = share((more * (negatives - wrong + less / 2)).sum(axis=0), positives * negatives)
    return area, share((more * precision).sum(axis=0), positives)


def _added(rows_ND: Floats, begins: NDArray[np.int64]) -> Floats:
    """The sums of the rows from each beginning to the next one: equal scores count as one."""
    return rows_ND if len(begins) == len(rows_ND) else np.add.reduceat(rows_ND, begins, axis=0)
