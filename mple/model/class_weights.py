"""How much each class counts in the loss, from how many training samples are of it. Numpy alone: sites count.

Legend: N samples, C classes, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.model.settings import ClassWeights, TaskKind, TaskSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCounts:
    """How many training samples have each class or label; they add up over sites."""

    having: tuple[int, ...]
    known: tuple[int, ...] = ()
    """Of labels: of how many samples it is known whether they have it; empty for classes."""

    @classmethod
    def of(cls, labels: NDArray[np.int64], classes: int) -> ClassCounts:
        """Of class numbers (N), or of labels (N, L) of 1, 0 and negative ones for unknown."""
        if labels.ndim == 1:
            return cls(having=tuple(np.bincount(labels, minlength=classes).tolist()))
        return cls(having=tuple((labels == 1).sum(axis=0).tolist()), known=tuple((labels >= 0).sum(axis=0).tolist()))

    def in_order(self, order: NDArray[np.int64]) -> ClassCounts:
        """Place j has those of class `order[j]`."""
        return ClassCounts(
            having=tuple(self.having[place] for place in order.tolist()),
            known=tuple(self.known[place] for place in order.tolist()) if self.known else (),
        )

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Over the samples of both."""
        return ClassCounts(
            having=tuple(one + more for one, more in zip(self.having, other.having, strict=True)),
            known=tuple(one + more for one, more in zip(self.known, other.known, strict=True)),
        )


def class_weights(task: TaskSettings, counts: ClassCounts) -> NDArray[np.float64] | None:
    """Weights by the class of a sample, None where all count alike.

    Returns:
        (C) for classes, by class; (2, L) for labels, first of samples that lack the label, then of those that have it.

    Guarantees: over the training samples that were counted the mean weight is 1; of labels, over those that are known
    of each label. The ratio of two weights is that of `class_weights` in the settings; for a label whose n samples of k
    known ones have it, `inverse` makes k/(2n) and k/(2(k - n)), in the ratio of torch's `pos_weight` = (k - n)/n. What
    no sample has weighs 1.
    """
    if task.class_weights is ClassWeights.NONE:
        return None
    having = np.asarray(counts.having, np.float64)
    if task.kind is TaskKind.CLASSES:
        return _weights(task, having)
    return _weights(task, np.stack([np.asarray(counts.known) - having, having]))


def _weights(task: TaskSettings, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """By class along the first axis."""
    some = np.maximum(counts, 1)
    if task.class_weights is ClassWeights.EFFECTIVE:
        # 1 - b^n without loss of digits where b is near 1
        raw = (1 - task.effective_beta) / -np.expm1(some * np.log(task.effective_beta))
    else:
        raw = 1 / some
    total, weighted = counts.sum(axis=0), (raw * counts).sum(axis=0)
    scale = np.divide(total, weighted, out=np.ones_like(weighted), where=weighted > 0)
    weights: NDArray[np.float64] = np.where(counts > 0, raw * scale, 1.0)
    return weights
