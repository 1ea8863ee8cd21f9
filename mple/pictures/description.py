"""What a site's part of its data consists of: a record for programs, and the source of the tables for people.

Counts only: no name of a file or of a patient is in it. Legend: N pictures, C channels, Y classes or labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.data import Dataset, LabelledImages
from mple.data.images import PatientSplit, repeated_images
from mple.data.source import SitePart
from mple.pictures.levels import level_below, level_counts

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PatientCounts:
    """Whose pictures a split has, in numbers."""

    patients: int
    by_class: tuple[int, ...]
    """Patients with a picture of each class; of several classes, a patient counts for each."""
    fewest_pictures: int
    median_pictures: float
    most_pictures: int
    """Of one patient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitCounts:
    """One split in numbers."""

    name: str
    pictures: int
    by_class: tuple[int, ...]
    """Pictures of each class, or with each label."""
    unknown: tuple[int, ...] | None
    """Of labels: pictures of which nobody knows whether they have it; the others are without it."""
    patients: PatientCounts | None
    """None where the set does not say whose its pictures are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSizes:
    """Of the pictures in their files, before any is resized."""

    files: int
    narrowest: int
    widest: int
    lowest: int
    highest: int
    """Pixels."""
    different: int
    """How many pairs of width and height occur."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRange:
    """Levels of one channel of the training pictures, from 0 to 255."""

    least: int
    p5: int
    mean: float
    p95: int
    most: int
    deviation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A site's part of its data."""

    name: str
    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    several: bool
    """Whether a picture can have several of them: labels."""
    splits: tuple[SplitCounts, ...]
    files: FileSizes | None
    """None where the set is kept at one size."""
    levels: tuple[ChannelRange, ...]
    patients: PatientSplit
    repeated: dict[str, int]
    """Validation pictures that equal a training picture in every value, test pictures that equal one of either, by
    split; a split without such is left out."""
    notes: tuple[str, ...]


def described(part: SitePart, dataset: Dataset) -> Description:
    """Counts, sizes and ranges of a part and of the pictures that were read of it."""
    catalogue, shape = part.catalogue, dataset.train.shape
    said = catalogue.train.patients is not None
    parts = (
        ("train", dataset.train, _chosen(catalogue.train.patients, part.train)),
        ("val", dataset.val, _chosen(catalogue.val.patients, part.val) if said else None),
        ("test", dataset.test, _chosen(catalogue.test.patients, part.test)),
    )
    return Description(
        name=dataset.name,
        channels=shape.channels,
        height=shape.height,
        width=shape.width,
        classes=dataset.classes,
        several=dataset.train.labels.ndim > 1,
        splits=tuple(_split_counts(name, images, who, len(dataset.classes)) for name, images, who in parts),
        files=_file_sizes(catalogue.file_sizes),
        levels=tuple(map(_range, level_counts(dataset.train.pixels_NCHW))),
        patients=dataset.patients,
        repeated=repeated_images(dataset),
        notes=dataset.notes,
    )


def has_class(labels: Numbers, classes: int) -> NDArray[np.bool_]:
    """Which pictures are of which class, or have which label (N, Y)."""
    return np.asarray(labels == 1 if labels.ndim > 1 else labels[:, None] == np.arange(classes))


def _chosen(patients: Numbers | None, places: Numbers) -> Numbers | None:
    return None if patients is None else patients[places]


def _split_counts(name: str, images: LabelledImages, patients: Numbers | None, classes: int) -> SplitCounts:
    has_NY = has_class(images.labels, classes)
    several = images.labels.ndim > 1
    return SplitCounts(
        name=name,
        pictures=len(images),
        by_class=tuple(has_NY.sum(axis=0).tolist()),
        unknown=tuple((images.labels < 0).sum(axis=0).tolist()) if several else None,
        patients=None if patients is None else _patient_counts(patients, has_NY),
    )


def _patient_counts(patients: Numbers, has_NY: NDArray[np.bool_]) -> PatientCounts:
    pictures = np.unique(patients, return_counts=True)[1] if len(patients) else np.zeros(1, np.int64)
    return PatientCounts(
        patients=len(np.unique(patients)),
        by_class=tuple(len(np.unique(patients[has_N])) for has_N in has_NY.T),
        fewest_pictures=int(pictures.min()),
        median_pictures=float(np.median(pictures)),
        most_pictures=int(pictures.max()),
    )


def _file_sizes(sizes: Sequence[tuple[int, int]]) -> FileSizes | None:
    if not sizes:
        return None
    widths, heights = zip(*sizes, strict=True)
    return FileSizes(
        files=len(sizes),
        narrowest=min(widths),
        widest=max(widths),
        lowest=min(heights),
        highest=max(heights),
        different=len(set(sizes)),
    )


def _range(counts: Numbers) -> ChannelRange:
    """Of the counts of 256 levels."""
    levels, found = np.arange(256), np.flatnonzero(counts)
    mean = float(counts @ levels / counts.sum())
    return ChannelRange(
        least=int(found[0]),
        p5=level_below(counts, 0.05),
        mean=mean,
        p95=level_below(counts, 0.95),
        most=int(found[-1]),
        deviation=float(np.sqrt(counts @ np.square(levels - mean) / counts.sum())),
    )
