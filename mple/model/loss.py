"""What a step makes smaller: softmax cross-entropy of classes, sigmoid cross-entropy of labels that are known.

Legend: B samples, C classes, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.model.class_weights import ClassCounts, class_weights
from mple.model.device import CPU, Device
from mple.model.settings import TaskKind, TaskSettings


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """The mean loss of a batch, by the task.

    Guarantees: what an unknown label holds, and what the network says of it, changes neither the value nor any
    gradient, bit for bit, and its own gradient is 0. Each known label counts alike, however many its sample has; a
    batch of unknown labels alone has the loss 0. A weight is the same in every batch: a mean is over samples, or over
    known labels, never over weights.
    """

    kind: TaskKind = TaskKind.CLASSES
    weights: Tensor | None = None
    """As `mple.model.class_weights.class_weights` makes them, float32, where the logits are."""

    @classmethod
    def of(cls, task: TaskSettings, counts: ClassCounts | None = None, device: Device = CPU) -> TaskLoss:
        """The loss of a run.

        Args:
            task: Its task.
            counts: Of all sites' training samples; only where the task weights classes.
            device: Of the logits.

        Raises ValueError: the task weights classes, and there are no counts.
        """
        weights: NDArray[np.float64] | None = None
        if counts is not None:
            weights = class_weights(task, counts)
        elif task.class_weights != "none":
            raise ValueError(f'class_weights = "{task.class_weights}" without counts of the classes')
        return cls(task.kind, None if weights is None else device.place(torch.from_numpy(weights).float()))

    def __call__(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """In nats, from logits (B, C) and int64 class numbers (B), or (B, L) and labels of 1, 0 and less for unknown;
        all on one device.

        With `label_smoothing` e the right class is to have a probability of 1 - e + e/C, the others e/C (Szegedy et
        al., 2016); a label that is there 1 - e/2, one that is absent e/2. A sample keeps the weight of its label.
        """
        if self.kind is TaskKind.CLASSES:
            if self.weights is None:
                return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
            losses_B = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
            return (losses_B * self.weights[labels]).mean()
        known_BL = labels >= 0
        there_BL = (labels == 1).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        # Chosen before the arithmetic, so that not even NaN gets out of an unknown label.
        losses_BL = functional.binary_cross_entropy_with_logits(
            torch.where(known_BL, logits, 0.0), there_BL, reduction="none"
        )
        if self.weights is not None:
            absent_L, there_L = self.weights
            losses_BL = losses_BL * torch.where(labels == 1, there_L, absent_L)
        return torch.where(known_BL, losses_BL, 0.0).sum() / known_BL.sum().clamp(min=1)

    def weight_of(self, labels: Tensor) -> float:
        """What the mean of a batch with these labels is taken over: samples, or known labels."""
        return float(len(labels) if self.kind is TaskKind.CLASSES else (labels >= 0).sum())
