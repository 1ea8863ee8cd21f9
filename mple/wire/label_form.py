"""What a sample is, as bytes: on the wire and in the compute node's cache.

Legend: B samples, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.model.settings import TaskKind

UNKNOWN_LABEL = 255

WireLabels = NDArray[np.uint16] | NDArray[np.uint8]
"""Permuted class numbers, uint16 (B); of a task of labels uint8 (B, L) in permuted order: 0 absent, 1 there, 255
unknown."""


@dataclass(frozen=True, slots=True)
class LabelForm:
    """Class numbers of two bytes each, or a byte for each label."""

    kind: TaskKind = TaskKind.CLASSES
    classes: int = 65_536
    """Or labels."""

    @property
    def sample_bytes(self) -> int:
        """Of one sample."""
        return self.classes if self.kind is TaskKind.LABELS else 2

    def zeros(self, samples: int) -> WireLabels:
        """So many samples', all of class 0 or without any label."""
        if self.kind is TaskKind.CLASSES:
            return np.zeros(samples, np.uint16)
        return np.zeros((samples, self.classes), np.uint8)

    def view(self, data: bytes, samples: int, offset: int = 0) -> WireLabels:
        """So many samples' out of bytes from a place on, whatever they say."""
        if self.kind is TaskKind.CLASSES:
            return np.frombuffer(data, "<u2", samples, offset)
        return np.frombuffer(data, np.uint8, samples * self.classes, offset).reshape(samples, self.classes)

    def check(self, labels_B: WireLabels) -> None:
        """Raises ValueError: a class is none of the plan's, or a label is neither 0, 1 nor 255."""
        if self.kind is TaskKind.CLASSES:
            if labels_B.size and int(labels_B.max()) >= self.classes:
                raise ValueError(f"label {int(labels_B.max())}; the plan has classes 0 to {self.classes - 1}")
        elif ((labels_B > 1) & (labels_B != UNKNOWN_LABEL)).any():
            odd = int(labels_B[(labels_B > 1) & (labels_B != UNKNOWN_LABEL)][0])
            raise ValueError(f"label {odd}; a label is 0, 1 or {UNKNOWN_LABEL} for unknown")


CLASS_NUMBERS = LabelForm()
"""Of any class."""


def label_bytes(labels_B: WireLabels) -> bytes:
    """Little-endian; nothing for no sample."""
    return labels_B.astype("<u2").tobytes() if labels_B.ndim == 1 else labels_B.astype(np.uint8).tobytes()


def permuted_labels(labels: NDArray[np.int64], label_order: NDArray[np.int64]) -> WireLabels:
    """As they travel: of class numbers (B), or of labels (B, L) of 1, 0 and -1; place j holds `label_order[j]`."""
    if labels.ndim == 1:
        return np.argsort(label_order).astype(np.uint16)[labels]
    return labels[:, label_order].astype(np.uint8)  # -1 becomes 255


def plain_labels(labels_B: WireLabels) -> NDArray[np.int64]:
    """Back to int64, with -1 for unknown labels; the order stays the permuted one."""
    if labels_B.ndim == 1:
        return labels_B.astype(np.int64)
    return labels_B.astype(np.int8).astype(np.int64)
