"""What a site tells of its training pictures so that a consortium can choose normalisation and window.

Sums, and counts over coarse cells; no picture, no extreme, and nothing that fewer than `least_count` patients (or
pictures, where the set does not say whose they are) have contributed to. docs/design/security.md says what it
tells.

Legend: N pictures, C channels, H W size, K cells, U contributors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.data import DataError, Dataset, DataSource
from mple.data.limits import MOST_CHANNELS, MOST_CLASSES, MOST_IMAGES, MOST_SIDE
from mple.data.source import SitePart
from mple.metrics.settings import LeastCount
from mple.pictures.description import has_class
from mple.pictures.levels import LEVELS, level_below, level_counts
from mple.pictures.value_grid import CELLS, cells_of
from mple.pictures.withheld import by_contributor, withheld_cells
from mple.printable import require_printable
from mple.ranges import Between, check_ranges

WIDTH = 8
"""Levels in a cell: narrower ones could be solved for from the exact sums."""
LEVEL_CELLS = LEVELS // WIDTH
_LEVEL_SUMS, _COUNT_SUMS = 3, 1
"""Exact sums that are told with the cells: of levels the count, the sum and the sum of squares."""
_READING = ("white", "window")


class Counted(StrEnum):
    """Whom the least count counts."""

    PATIENTS = "patients"
    PICTURES = "pictures"
    """The set does not say whose they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSums:
    """One channel of all training pictures, in levels from 0 to 255."""

    total: int
    """Of all values."""
    squares: int
    """Of their squares."""
    p5: int | None
    p95: int | None
    """The lowest level that so many of 100 values do not exceed; None where too few have such low or high values."""
    cells: tuple[int | None, ...]
    """How many values have the levels 0 to 7, 8 to 15 and so on; None where withheld."""

    def __post_init__(self) -> None:
        ends = [end for end in (self.p5, self.p95) if end is not None]
        if len(self.cells) != LEVEL_CELLS or min(filter(None, self.cells), default=0) < 0:
            raise ValueError(f"cells = {len(self.cells)} counts; needs {LEVEL_CELLS}, none below 0")
        if ends != sorted(ends) or any(not 0 <= end < LEVELS for end in ends):
            raise ValueError(f"p5 = {self.p5}, p95 = {self.p95}; needs levels from 0 to {LEVELS - 1}, p5 the lower one")


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueCounts:
    """Values of grey DICOM files after their rescale, before any window, without padding: Hounsfield units of a CT."""

    pictures: int
    values: int
    cells: Mapping[int, int | None]
    """How many values are in each cell of `value_grid` that is not empty; None where withheld."""

    def __post_init__(self) -> None:
        if not 0 <= self.values < 2**60 or self.pictures < 1:
            raise ValueError(f"values = {self.values} of pictures = {self.pictures}; needs more")
        if any(not 0 <= cell < CELLS or (count or 0) < 0 for cell, count in self.cells.items()):
            raise ValueError(f"cells; needs numbers from 0 to {CELLS - 1} and counts of 0 and more")
        check_cells(self.cells.values(), self.values, "cells")


@dataclass(frozen=True, kw_only=True, slots=True)
class SetStatistics:
    """The file that leaves a site: its training pictures in sums."""

    least_count: LeastCount
    """Whatever fewer than this have contributed to is withheld."""
    counted: Counted
    pictures: Annotated[int, Between(1, MOST_IMAGES)]
    patients: int | None
    height: Annotated[int, Between(1, MOST_SIDE)]
    width: Annotated[int, Between(1, MOST_SIDE)]
    read_as: Mapping[str, str]
    """Settings of `[data]` that change what a level means, where the site has set them."""
    classes: Mapping[str, int | None]
    """Pictures of each class, or with each label; None where withheld."""
    channels: tuple[LevelSums, ...]
    stored: ValueCounts | None
    """None of sets that are not grey DICOM files."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 1 <= len(self.channels) <= MOST_CHANNELS or not 2 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"{len(self.channels)} channels of {len(self.classes)} classes can't be")
        for name in self.classes:
            require_printable("class", name)
        counted = self.patients if self.counted is Counted.PATIENTS else self.pictures
        if counted is None or not self.least_count <= counted <= self.pictures:
            raise ValueError(f"{counted} {self.counted} of {self.pictures} pictures, least_count = {self.least_count}")
        for one in self.channels:
            check_cells(one.cells, self.values, "cells")
            if not 0 <= one.total <= (LEVELS - 1) * self.values or not one.total**2 <= self.values * one.squares:
                raise ValueError(f"total = {one.total}, squares = {one.squares} of {self.values} values can't be")
            if one.squares > (LEVELS - 1) * one.total:
                raise ValueError(f"squares = {one.squares} of values that sum up to {one.total} can't be")

    @property
    def values(self) -> int:
        """Of one channel."""
        return self.pictures * self.height * self.width


def check_cells(cells: Iterable[int | None], values: int, where: str) -> None:
    """Refuse counts that do not go with their sum.

    Raises ValueError: they are more, or fewer although none is withheld.
    """
    counts = list(cells)
    told = sum(count for count in counts if count is not None)
    if told > values or (told < values and None not in counts):
        raise ValueError(f"{where} count {told} of {values} values")


def set_statistics(source: DataSource, part: SitePart, dataset: Dataset, least_count: int) -> SetStatistics:
    """The statistics of the training pictures of a part that was read; `val` and `test` have no share in them.

    Raises DataError: fewer patients (or pictures) than `least_count` are in it, or a file can't be read.
    """
    split, images = part.catalogue.train, dataset.train
    patients = None if split.patients is None else split.patients[part.train]
    contributors = len(images) if patients is None else len(np.unique(patients))
    counted = Counted.PICTURES if patients is None else Counted.PATIENTS
    if contributors < least_count:
        raise DataError(
            f"{dataset.name} has training pictures of {contributors} {counted}, least_count = {least_count}: "
            "statistics of so few would tell too much of each; pool them within the hospital first"
        )
    has_NY = has_class(images.labels, len(dataset.classes))
    if images.labels.ndim > 1:  # no sum over labels is known, but the pictures without one, from those with it
        support_2Y = np.stack([by_contributor(has, patients).sum(axis=0) for has in (has_NY, ~has_NY)])
        hidden_Y = np.asarray(((support_2Y > 0) & (support_2Y < least_count)).any(axis=0))
    else:
        hidden_Y = withheld_cells(by_contributor(has_NY, patients), least_count, _COUNT_SUMS)
    return SetStatistics(
        least_count=least_count,
        counted=counted,
        pictures=len(images),
        patients=None if patients is None else contributors,
        height=images.shape.height,
        width=images.shape.width,
        read_as={name: str(value) for name in _READING if (value := getattr(source, name, None))},
        classes=dict(zip(dataset.classes, _told(has_NY.sum(axis=0), hidden_Y), strict=True)),
        channels=tuple(_level_sums(images.pixels_NCHW[:, channel], patients, least_count)
                       for channel in range(images.shape.channels)),
        stored=_stored(part, patients, least_count),
    )  # fmt: skip


def _told(counts: NDArray[np.int64], withheld: NDArray[np.bool_]) -> tuple[int | None, ...]:
    return tuple(None if hidden else int(count) for count, hidden in zip(counts, withheld, strict=True))


def _level_sums(pixels_NHW: NDArray[np.uint8], patients: NDArray[np.int64] | None, least: int) -> LevelSums:
    counts, levels = level_counts(pixels_NHW[:, None])[0], np.arange(LEVELS)
    has_NL = np.stack([np.bincount(picture.reshape(-1), minlength=LEVELS) > 0 for picture in pixels_NHW])
    has_UL = by_contributor(has_NL, patients)
    has_UK = np.asarray(has_UL.reshape(len(has_UL), LEVEL_CELLS, WIDTH).any(axis=2))
    cells_K = counts.reshape(LEVEL_CELLS, WIDTH).sum(axis=1)
    low, high = level_below(counts, 0.05), level_below(counts, 0.95)
    return LevelSums(
        total=int(counts @ levels),
        squares=int(counts @ levels**2),
        p5=low if has_UL[:, : low + 1].any(axis=1).sum() >= least else None,
        p95=high if has_UL[:, high:].any(axis=1).sum() >= least else None,
        cells=_told(cells_K, withheld_cells(has_UK, least, _LEVEL_SUMS)),
    )


def _stored(part: SitePart, patients: NDArray[np.int64] | None, least: int) -> ValueCounts | None:
    read = part.catalogue.train.values
    if read is None:
        return None
    counts, has = np.zeros(CELLS, np.int64), []
    for values in read(part.train):
        if values is None:
            return None
        own = np.bincount(cells_of(values), minlength=CELLS)
        counts += own
        has.append(own > 0)
    told = _told(counts, withheld_cells(by_contributor(np.stack(has), patients), least, _COUNT_SUMS))
    return ValueCounts(
        pictures=len(has),
        values=int(counts.sum()),
        cells={cell: told[cell] for cell in np.flatnonzero(counts).tolist()},
    )
