"""What a network's outputs stand for, and the numbers by which they are scored.

Legend: N samples, C classes or labels.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mple.model.settings import TaskKind

CALIBRATION_BINS = 15
"""Of equal width over the probabilities from 0 to 1; a bin has its lower end, the last one both."""
_MOST_BINS, _LEAST_BINS = 2048, 32
MOST_CELLS = 2**18
"""Counts of all histograms together, which no tally has more of; most are 0."""
_MOST_CONFUSED = 256
_NEAR, _FAR = 0.25, 1000.0
_GRAIN = 2.0**20


@dataclass(frozen=True, slots=True)
class Outputs:
    """A network's outputs."""

    count: int
    """C, of classes or labels."""
    task: TaskKind = TaskKind.CLASSES

    @property
    def several(self) -> bool:
        """Whether several may be true of a sample, each with a probability of its own; else exactly one is."""
        return self.task is TaskKind.LABELS

    @property
    def bins(self) -> int:
        """Of each histogram of scores: 2048, fewer where there are many classes, 0 where there are too many."""
        room = MOST_CELLS // (2 * self.count)
        return min(_MOST_BINS, 1 << (room.bit_length() - 1)) if room >= _LEAST_BINS else 0

    @property
    def confused(self) -> int:
        """Counts of the confusion matrix, or of the matrices of all labels; 0 where there are too many classes."""
        if self.several:
            return 4 * self.count
        return self.count**2 if self.count <= _MOST_CONFUSED else 0

    @property
    def edges(self) -> NDArray[np.float64]:
        """Between the bins of a histogram of scores, rising; a score on an edge is in the bin above it.

        They lie close where a network scores that knows nothing, at 0, or of classes at equal chances, and wide apart
        far out, where confident ones do: evenly in asinh(4 x), to 1000 on both sides. One of them is 0, a probability
        of one half. The first and the last bin have no outer end.
        """
        return _edges(self.bins, 0.0 if self.several else math.log(max(1, self.count - 1)))

    @property
    def half(self) -> int:
        """The place among the edges of probability 0.5."""
        return int(np.flatnonzero(self.edges == 0.0)[0])


@cache
def _edges(bins: int, below: float) -> NDArray[np.float64]:
    places = np.arange(1, bins) * 2 / bins - 1
    # Rounded to the same numbers on every machine, whatever its sinh makes of the last bit.
    edges = np.round((np.sinh(places * np.arcsinh(_FAR / _NEAR)) * _NEAR - below) * _GRAIN) / _GRAIN
    edges[np.abs(edges).argmin()] = 0.0
    return np.asarray(edges)


def scores_of(logits_NC: NDArray[np.float64], outputs: Outputs) -> NDArray[np.float64]:
    """The log-odds ln(p / (1 - p)) of every class or label, (N, C); without overflow, however sure the network is.

    Of classes that is each logit against the log-sum-exp of all others.
    """
    if outputs.several:
        return logits_NC
    rows_N, first_N = np.arange(len(logits_NC)), logits_NC.argmax(axis=1)
    others_NC = logits_NC.copy()
    others_NC[rows_N, first_N] = -np.inf
    rest_N = _log_sum_exp(others_NC)
    above_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    above_NC = above_NC.sum(axis=1, keepdims=True) - above_NC
    above_NC[rows_N, first_N] = 1.0
    scores_NC: NDArray[np.float64] = logits_NC - logits_NC.max(axis=1, keepdims=True) - np.log(above_NC)
    scores_NC[rows_N, first_N] = logits_NC[rows_N, first_N] - rest_N
    return scores_NC


def _log_sum_exp(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    most_N1 = logits_NC.max(axis=1, keepdims=True, initial=-np.finfo(np.float64).max)
    return np.asarray(most_N1[:, 0] + np.log(np.exp(logits_NC - most_N1).sum(axis=1)))


def probabilities(logits_NC: NDArray[np.float64], outputs: Outputs) -> NDArray[np.float64]:
    """Of every class or label, (N, C); those of classes add up to 1."""
    if outputs.several:
        small_NC = np.exp(-np.abs(logits_NC))
        upper_NC = np.where(logits_NC >= 0, 1.0, small_NC)
        return np.asarray(upper_NC / (1.0 + small_NC), np.float64)
    above_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(above_NC / above_NC.sum(axis=1, keepdims=True))


def truths_of(labels: NDArray[np.int64], outputs: Outputs) -> NDArray[np.int64]:
    """1 where a class or label is true of a sample, 0 where not, -1 where that is not known: (N, C)."""
    if outputs.several:
        return labels
    return np.asarray(labels[:, None] == np.arange(outputs.count), np.int64)
