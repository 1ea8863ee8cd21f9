"""Points of a class's ROC and precision-recall curve, few enough to draw, from scores or from histograms of them.

Legend: N samples, B bins, K points.
"""

import numpy as np
from numpy.typing import NDArray

_MOST_POINTS, _LEAST_POINTS, _ALL_POINTS = 200, 20, 4000
_DIGITS = 6


def points_for(classes: int) -> int:
    """How many points a curve has at most: 200, down to 20 where there are many classes."""
    return max(_LEAST_POINTS, min(_MOST_POINTS, _ALL_POINTS // classes))


def roc_points(scores_N: NDArray[np.float64], is_N: NDArray[np.bool_], most: int = _MOST_POINTS) -> NDArray[np.float64]:
    """False and true positive rates (K, 2) from (0, 0) to (1, 1): points of the curve itself, evenly along it, in six
    digits. None, (0, 2), where there are only positives or only negatives."""
    return _roc(*_counts(scores_N, is_N), most)


def precision_recall_points(
    scores_N: NDArray[np.float64], is_N: NDArray[np.bool_], most: int = _MOST_POINTS
) -> NDArray[np.float64]:
    """Recalls and precisions (K, 2), from the highest score on, likewise. None, (0, 2), where there is no positive."""
    return _precision_recall(*_counts(scores_N, is_N), most)


def binned_roc_points(counts_2B: NDArray[np.int64], most: int = _MOST_POINTS) -> NDArray[np.float64]:
    """As `roc_points`, of the positives and the negatives in each bin of rising scores."""
    return _roc(*_binned(counts_2B), most)


def binned_precision_recall_points(counts_2B: NDArray[np.int64], most: int = _MOST_POINTS) -> NDArray[np.float64]:
    """As `precision_recall_points`, likewise."""
    return _precision_recall(*_binned(counts_2B), most)


def _roc(hits: NDArray[np.int64], said: NDArray[np.int64], most: int) -> NDArray[np.float64]:
    if not len(hits) or not 0 < hits[-1] < said[-1]:
        return np.empty((0, 2))
    rates_K2 = np.stack([(said - hits) / (said[-1] - hits[-1]), hits / hits[-1]], axis=1)
    rates_K2 = np.concatenate([[[0.0, 0.0]], rates_K2])
    return np.round(rates_K2[_along(rates_K2.sum(axis=1), most)], _DIGITS)


def _precision_recall(hits: NDArray[np.int64], said: NDArray[np.int64], most: int) -> NDArray[np.float64]:
    if not len(hits) or not hits[-1]:
        return np.empty((0, 2))
    points_K2 = np.stack([hits / hits[-1], hits / said], axis=1)
    return np.round(points_K2[_along(points_K2[:, 0], most)], _DIGITS)


def _binned(counts_2B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At the lower end of each bin with samples, from the highest on, as `_counts`."""
    filled_2B = counts_2B[:, counts_2B.any(axis=0)][:, ::-1]
    return filled_2B[0].cumsum(), filled_2B.sum(axis=0).cumsum()


def _counts(scores_N: NDArray[np.float64], is_N: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At each distinct score, from the highest on, how many positives score so high, and how many samples."""
    falling = np.argsort(-scores_N, kind="stable")
    ends = np.flatnonzero(np.diff(scores_N[falling], append=-np.inf))
    return is_N[falling].cumsum()[ends], ends + 1


def _along(places_K: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Where rising places are nearest above even ones; the first and the last are among them."""
    if len(places_K) <= most:
        return np.arange(len(places_K))
    even = np.linspace(places_K[0], places_K[-1], most - 1)
    found = np.searchsorted(places_K, even).clip(0, len(places_K) - 1)
    return np.unique(np.concatenate([found, [0, len(places_K) - 1]]))
