"""Pictures with labels, as every reader gives them.

A reader first makes a `Catalogue`: class names and labels of the whole set, no pixel yet. The site's part is chosen
from that, and only the part's pixels are read, so that a large set never lies in memory twice.

Legend: N images, C channels, H W size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape

MOST_CHANNELS = 4


class DataError(ValueError):
    """Data can't be used; the text names the file or value and the way out."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """uint8 pixels (N, C, H, W), C from 1 to 4, and int64 class numbers (N)."""

    pixels_NCHW: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        pixels, labels = self.pixels_NCHW, self.labels
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise DataError(f"pixels of dtype {pixels.dtype} and shape {pixels.shape}; needs uint8 (N, C, H, W)")
        if not 1 <= pixels.shape[1] <= MOST_CHANNELS:
            raise DataError(f"pixels of shape {pixels.shape} have {pixels.shape[1]} channels; 1 to 4 are allowed")
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
            raise DataError(f"{labels.dtype} labels of shape {labels.shape} for {len(pixels)} images; needs int64 (N)")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> ImageShape:
        """Of each image."""
        _, channels, height, width = self.pixels_NCHW.shape
        return ImageShape(channels=channels, height=height, width=width)

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        """Copies of the images with these numbers, in this order; a number may come twice.

        Raises DataError: a number is outside 0 to N - 1.
        """
        outside = indices[(indices < 0) | (indices >= len(self))]
        if len(outside):
            raise DataError(f"image number {int(outside[0])} was asked for; there are {len(self)}, counted from 0")
        return LabelledImages(self.pixels_NCHW[indices], self.labels[indices])


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One site's train and test images, of one shape, with the class names that its labels count."""

    name: str
    classes: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages

    def __post_init__(self) -> None:
        if self.test.shape != self.train.shape:
            raise DataError(f"{self.name}: train images are {self.train.shape}, test images {self.test.shape}")
        for split, images in (("train", self.train), ("test", self.test)):
            check_labels(images.labels, len(self.classes), f"{self.name}, {split} split")


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Train or test of a whole set before its pixels are read."""

    labels: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    """Pixels (n, C, H, W) of the n images with these numbers, which ascend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """What a source holds, before any part is chosen."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split


def check_labels(labels: NDArray[np.int64], classes: int, where: str) -> None:
    """Refuse labels that count no class.

    Raises DataError: a label is outside 0 to `classes` - 1; the text begins with `where`.
    """
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise DataError(f"{where}: label {int(outside[0])} is out of range; there are {classes} classes, from 0")


def numbered_classes(named: tuple[str, ...], labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """Class names for a set whose labels are numbers: as configured, or the numbers themselves.

    Raises DataError: a label is out of range, or all labels are equal and no names are configured.
    """
    names = named or tuple(str(number) for number in range(int(labels.max(initial=-1)) + 1))
    check_labels(labels, len(names), where)
    if len(names) < 2:
        if not names:
            raise DataError(f"{where}: there is no labelled image in it")
        raise DataError(f"{where}: only class {list(names)} occurs; name all classes of the consortium with `classes`")
    return names
