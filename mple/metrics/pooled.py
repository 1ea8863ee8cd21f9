"""Values of the sums of several sites' tallies, with 95 % intervals.

Intervals are of the bootstrap of counts: as many samples are drawn anew, each falling into a cell of the tally with the
share that the cell has. Areas under the ROC curve have DeLong's of the binned scores. Histograms of different classes
do not tell how these vary together: the interval of a mean over them is the mean of theirs, which is no narrower than
the right one. The loss has none.

Legend: C classes or labels, D draws.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mple.metrics.delong import Interval, binned_auroc
from mple.metrics.exact import Exact, interval_of
from mple.metrics.outputs import Outputs
from mple.metrics.tallies import Tally, counts_of
from mple.metrics.values import METRICS, Metric, mean_of, values, values_by_class

_DRAWS = 500
_AT_ONCE = 20
"""Draws of two histograms in memory: each draw is of thousands of cells."""
_SEED = 15


def pooled_values(sums: Mapping[str, Tally], outputs: Outputs, at: NDArray[np.int64] | None = None) -> dict[str, Exact]:
    """The metrics that have a value, by name, with intervals; arguments as of `mple.metrics.values`."""
    whole, by_class = values(sums, outputs, at), values_by_class(sums, outputs, at)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    found = {}
    for name, value in whole.items():
        metric, tally = METRICS[name], sums[METRICS[name].tally]
        if metric.whole is not None:
            found[name] = Exact(value=value, interval=_interval_of_whole(metric, value, tally, outputs, rng))
            continue
        each = by_class[name]
        if metric.tally == "confusion":
            drawn_DC = _by_class(metric, _confusions(tally, outputs, rng), outputs, at)
            intervals = tuple(
                interval_of(math.nan if one is None else one, drawn_DC[:, place]) for place, one in enumerate(each)
            )
            interval = interval_of(value, mean_of(drawn_DC))
        else:
            counts = counts_of(metric.tally, tally, outputs)
            intervals = tuple(
                None if one is None else _of_scores(name, counts[place], place, outputs, at, rng)
                for place, one in enumerate(each)
            )
            interval = _mean(intervals)
        found[name] = Exact(value=value, interval=interval, by_class=each, intervals=intervals)
    return found


def _interval_of_whole(
    metric: Metric, value: float, tally: Tally, outputs: Outputs, rng: np.random.Generator
) -> Interval | None:
    assert metric.whole is not None
    counts, sums = counts_of(metric.tally, tally, outputs), np.array(tally.sums)
    if metric.tally == "counts":
        right_D = rng.binomial(counts[0], counts[1] / counts[0], _DRAWS)
        drawn = np.stack([np.full(_DRAWS, counts[0]), right_D], axis=1)
        return interval_of(value, metric.whole(drawn, np.empty((_DRAWS, 0))))
    if metric.tally == "calibration":
        whole_K = np.maximum(counts[0], 1)
        drawn_DK = rng.multinomial(int(counts[0].sum()), counts[0] / counts[0].sum(), _DRAWS)
        right_DK = rng.binomial(drawn_DK, counts[1] / whole_K)
        draws_D = metric.whole(np.stack([drawn_DK, right_DK], axis=1), drawn_DK * (sums / whole_K))
        return interval_of(value, draws_D, metric.leans)
    return None


def _confusions(tally: Tally, outputs: Outputs, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws of a confusion matrix, all of its cells together; of labels each matrix by itself."""
    counts = counts_of("confusion", tally, outputs)
    if not outputs.several:
        return _draws(counts.ravel(), rng, _DRAWS).reshape(_DRAWS, *counts.shape)
    return np.stack([_draws(row, rng, _DRAWS) for row in counts], axis=1)


def _draws(cells: NDArray[np.int64], rng: np.random.Generator, draws: int) -> NDArray[np.int64]:
    total = int(cells.sum())
    return rng.multinomial(total, cells / max(1, total), draws) if total else np.zeros((draws, len(cells)), np.int64)


def _of_scores(
    name: str,
    counts: NDArray[np.int64],
    place: int,
    outputs: Outputs,
    at: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> Interval | None:
    """The interval of one class, from its two histograms."""
    if name == "auroc":
        return binned_auroc(counts[0], counts[1])[1]
    cells = np.flatnonzero(counts.ravel())
    at_place = None if at is None else at[place : place + 1]
    values_D = np.empty(_DRAWS)
    for low in range(0, _DRAWS, _AT_ONCE):
        values_d = values_D[low : low + _AT_ONCE]
        drawn = np.zeros((len(values_d), counts.size), np.int64)
        drawn[:, cells] = _draws(counts.ravel()[cells], rng, len(values_d))
        values_d[:] = _by_class(METRICS[name], drawn.reshape(-1, 1, *counts.shape), outputs, at_place)[:, 0]
    once = _by_class(METRICS[name], counts[None], outputs, at_place)
    return interval_of(float(once[0]), values_D)


def _by_class(
    metric: Metric, counts: NDArray[np.int64], outputs: Outputs, at: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    if metric.at_threshold is not None:
        assert at is not None
        return metric.at_threshold(counts, outputs, at)
    assert metric.by_class is not None
    return metric.by_class(counts, outputs)


def _mean(intervals: tuple[Interval | None, ...]) -> Interval | None:
    known = [one for one in intervals if one is not None]
    if not known:
        return None
    return sum(low for low, _ in known) / len(known), sum(high for _, high in known) / len(known)
