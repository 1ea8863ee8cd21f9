"""Pictures with labels, as every reader gives them.

A reader first makes a `Catalogue`: class names and labels of the whole set, no pixel yet. The site's part is chosen
from that, and only the part's pixels are read, so that a large set never lies in memory twice.

Legend: N images, C channels, H W size, L labels.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mple.data.limits import MOST_CLASSES, MOST_LABELS
from mple.data.pixel_file import PixelFile
from mple.model.settings import TaskKind
from mple.morph import ImageShape
from mple.printable import require_printable

MOST_CHANNELS = 4
_BLOCK_BYTES = 4 * 1024**2
UNKNOWN = -1
"""In an array of labels: whether the image has the label is not known."""


class PatientSplit(StrEnum):
    """Whether validation or test pictures show patients of training pictures; all that a site tells of its patients."""

    UNKNOWN = "unknown"
    """The pictures do not say whose they are."""
    APART = "apart"
    """No patient of training pictures is in the others."""
    SHARED = "shared"
    """Some patient is: what is measured is how well training pictures are remembered."""


class DataError(ValueError):
    """Data can't be used; the text names the file or value and the way out."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """uint8 pixels (N, C, H, W), C from 1 to 4, and what they are: int64 class numbers (N), or for a task of labels
    int64 (N, L) of 1, 0 and `UNKNOWN`."""

    pixels: NDArray[np.uint8] | PixelFile
    """In memory, or where a site keeps many."""
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if pixels.dtype != np.uint8 or len(pixels.shape) != 4:
            raise DataError(f"pixels of dtype {pixels.dtype} and shape {pixels.shape}; needs uint8 (N, C, H, W)")
        if not 1 <= pixels.shape[1] <= MOST_CHANNELS:
            raise DataError(f"pixels of shape {pixels.shape} have {pixels.shape[1]} channels; 1 to 4 are allowed")
        if labels.dtype != np.int64 or labels.ndim not in (1, 2) or len(labels) != len(pixels):
            text = f"{labels.dtype} labels of shape {labels.shape} for {len(pixels)} images"
            raise DataError(f"{text}; needs int64 (N), or (N, L) for labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> ImageShape:
        """Of each image."""
        _, channels, height, width = self.pixels.shape
        return ImageShape(channels=channels, height=height, width=width)

    @property
    def pixels_NCHW(self) -> NDArray[np.uint8]:
        """All pixels, in memory."""
        return self.pixels.taken(np.arange(len(self))) if isinstance(self.pixels, PixelFile) else self.pixels

    @property
    def held_bytes(self) -> int:
        """Memory of the pixels."""
        return 0 if isinstance(self.pixels, PixelFile) else self.pixels.nbytes

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        """Copies of the images with these numbers, in this order; a number may come twice.

        Raises DataError: a number is outside 0 to N - 1.
        """
        outside = indices[(indices < 0) | (indices >= len(self))]
        if len(outside):
            raise DataError(f"image number {int(outside[0])} was asked for; there are {len(self)}, counted from 0")
        pixels = self.pixels
        taken_NCHW = pixels.taken(indices) if isinstance(pixels, PixelFile) else pixels[indices]
        return LabelledImages(taken_NCHW, self.labels[indices])

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """All pixels in their order, some MiB at a time."""
        size = max(1, _BLOCK_BYTES // self.shape.elements)
        for low in range(0, len(self), size):
            yield self.take(np.arange(low, min(low + size, len(self)))).pixels_NCHW


NO_IMAGES = LabelledImages(np.empty((0, 1, 1, 1), np.uint8), np.empty(0, np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One site's images of three splits, of one shape and for one task."""

    name: str
    classes: tuple[str, ...]
    """Names of the classes that labels count, or of the labels."""
    train: LabelledImages
    test: LabelledImages
    val: LabelledImages = NO_IMAGES
    """Of validation; an empty one takes the shape of the others."""
    patients: PatientSplit = PatientSplit.UNKNOWN
    """Whether validation or test images show patients of training images."""
    notes: tuple[str, ...] = ()
    """What the site should know of its set; counts and names of classes, never a patient's."""

    def __post_init__(self) -> None:
        if not len(self.val):
            object.__setattr__(self, "val", self.train.take(np.empty(0, np.int64)))
        for split, images in (("test", self.test), ("val", self.val)):
            if images.shape != self.train.shape:
                raise DataError(f"{self.name}: train images are {self.train.shape}, {split} images {images.shape}")
            if images.labels.ndim != self.train.labels.ndim:
                raise DataError(f"{self.name}: one split has classes, the other labels; save both alike")
        for name in self.classes:
            try:
                require_printable("class", name)
            except ValueError as fault:
                raise DataError(f"{self.name}: {fault}") from None
        for split, images in (("train", self.train), ("test", self.test), ("val", self.val)):
            check_labels(images.labels, len(self.classes), f"{self.name}, {split} split")

    @property
    def task(self) -> TaskKind:
        """What its images can be learned for."""
        return task_of(self.train.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One of the three splits of a whole set before its pixels are read."""

    labels: NDArray[np.int64]
    """As `LabelledImages` has them."""
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    """Pixels (n, C, H, W) of the n images with these numbers, which ascend."""
    patients: NDArray[np.int64] | None = None
    """Numbers (N) of the patients that the images show, over all splits; None where the set does not say."""
    values: Callable[[NDArray[np.int64]], Iterator[NDArray[np.float64] | None]] | None = None
    """What the images with these numbers hold in their own unit, before a window, in no order, one after the other;
    None where the format has no unit, or a file is in colour."""


NO_SPLIT = Split(labels=NO_IMAGES.labels, read=lambda _: NO_IMAGES.pixels_NCHW, patients=NO_IMAGES.labels)
"""Of a set that has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """What a source holds, before any part is chosen."""

    name: str
    classes: tuple[str, ...]
    shape: ImageShape
    """Of every image."""
    train: Split
    test: Split
    val: Split = NO_SPLIT
    """Empty also where the settings have its images trained on or left out."""
    notes: tuple[str, ...] = ()
    """What a site should know of how its files are shown."""
    file_sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of the picture in each file, before it is resized; empty where the set has one size."""


def repeated_images(dataset: Dataset) -> dict[str, int]:
    """How many images of `val` and of `test` equal some training image, and how many of `test` equal one of either, in
    every value; a split without such is left out."""
    known, repeated = set(map(_digest, dataset.train.pixels_NCHW)), {}
    for name, split in (("val", dataset.val), ("test", dataset.test)):
        digests = list(map(_digest, split.pixels_NCHW))
        repeated[name] = sum(digest in known for digest in digests)
        known.update(digests)
    return {name: count for name, count in repeated.items() if count}


def _digest(pixels_CHW: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(pixels_CHW.tobytes(), digest_size=16).digest()


def task_of(labels: NDArray[np.int64]) -> TaskKind:
    """What labels of this shape are for."""
    return TaskKind.LABELS if labels.ndim == 2 else TaskKind.CLASSES


def check_labels(labels: NDArray[np.int64], classes: int, where: str) -> None:
    """Refuse numbers that count no class; of labels, others than 0, 1 and `UNKNOWN`, or a column more or less.

    Raises DataError: a class number is outside 0 to `classes` - 1, or labels are not so; the text begins with `where`.
    """
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise DataError(f"{where}: {labels.shape[1]} labels for each image, {classes} names; name each label once")
        odd = labels[(labels < UNKNOWN) | (labels > 1)]
        if len(odd):
            raise DataError(
                f"{where}: {int(odd[0])} among the labels; a label is 1 (there), 0 (absent) or -1 (unknown)"
            )
        return
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        found = int(outside[0])
        most = f"there are {classes} classes, from 0"
        if classes == MOST_CLASSES:
            most = f"classes are numbered from 0, at most {MOST_CLASSES}; number them anew if these are codes"
        raise DataError(f"{where}: label {found} is out of range; {most}")


def numbered_classes(named: tuple[str, ...], labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """Names of classes, or of labels, for a set whose classes are numbers: as configured, in Unicode's form NFC, or the
    numbers themselves.

    Raises DataError: a class or label is out of range, or labels are more than a plan can hold; or, where no names are
    configured, all classes are equal, they are more than a plan can hold, or a number below the highest has no image.
    """
    if not len(labels):
        raise DataError(f"{where}: there is no labelled image in it")
    if labels.ndim == 2:
        if labels.shape[1] > MOST_LABELS:
            raise DataError(f"{where}: {labels.shape[1]} labels for each image; at most {MOST_LABELS} are allowed")
        names = named or tuple(map(str, range(labels.shape[1])))
        check_labels(labels, len(names), where)
        return tuple(unicodedata.normalize("NFC", name) for name in names)
    if named:
        check_labels(labels, len(named), where)
        return tuple(unicodedata.normalize("NFC", name) for name in named)
    highest = int(labels.max())
    check_labels(labels, MOST_CLASSES, where)
    missing = np.flatnonzero(np.bincount(labels, minlength=highest + 1) == 0)
    if len(missing):
        raise DataError(
            f"{where}: labels go up to {highest}, but no image has {_listed(missing)}; number the classes from 0 "
            "without gaps, or name all classes of the consortium with `classes`"
        )
    if not highest:
        raise DataError(f"{where}: only class ['0'] occurs; name all classes of the consortium with `classes`")
    return tuple(map(str, range(highest + 1)))


def _listed(numbers: NDArray[np.int64]) -> str:
    first = ", ".join(map(str, numbers[:3].tolist()))
    return first if len(numbers) <= 3 else f"{first} and {len(numbers) - 3} more"
