"""Sets of picture files, whatever their format: headers first, pixels of the chosen part later.

Legend: N images, C channels, H W size.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.data.images import Catalogue, DataError, Split
from mple.data.partitions import hold_out
from mple.data.picture_files import PictureFiles, PictureFormat, PictureHeader, SinglePictures, read_picture
from mple.data.settings import DataSource
from mple.ranges import Between


class Channels(StrEnum):
    """Colours of pictures that come as files."""

    AUTO = "auto"
    """One channel where all files are stored as grey, else three. Sites must agree, so state it where files vary."""
    GREY = "grey"
    RGB = "rgb"


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSource(DataSource):
    """What sets of picture files have in common."""

    path: Path
    """Folder of the pictures."""
    side_px: Annotated[int, Between(1, 4096)] | None = None
    """Pictures are resized to this width and height, their aspect ratio is not kept; by default all must be of one
    size."""
    channels: Channels = Channels.AUTO
    test_share: Annotated[float, Between(0, 1, below=True)] = 0.2
    """Without a test split: the share of each class held out for testing."""

    def picture_format(self) -> PictureFormat:
        """How a file is read. Raises DataError: a library is missing."""
        return PictureFiles()

    def single_pictures(self) -> SinglePictures:
        """In this format; resized and greyed as the set's own are."""
        resized, greyed = self.side_px is not None, self.channels is Channels.GREY
        return SinglePictures(format=self.picture_format(), resized=resized, greyed=greyed)


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file and the number of its class."""

    path: Path
    label: int


def file_catalogue(
    source: PictureSource,
    classes: tuple[str, ...],
    splits: tuple[Sequence[LabelledFile], Sequence[LabelledFile] | None],
) -> Catalogue:
    """Look at all headers, agree on channels and size, hold out test files where there are none.

    The set is named as its folder. Of train and test files, None for the second asks to hold out `test_share` of the
    first.

    Raises DataError: there is no training file, one can't be read, sizes differ and `side_px` is missing, or all are
    larger than `most_bytes`.
    """
    train, test = splits
    reader = source.picture_format()
    if test is None:
        held = hold_out(np.asarray([file.label for file in train], np.int64), source.test_share, source.seed)
        train, test = ([train[int(i)] for i in np.flatnonzero(held == for_test)] for for_test in (False, True))
    if not train:
        raise DataError(f"{source.path} holds no training picture")
    paths = [file.path for file in (*train, *test)]
    headers = [reader.header(path) for path in paths]
    channels = 1 if source.channels is Channels.GREY else 3
    if source.channels is Channels.AUTO and all(header.is_grey for header in headers):
        channels = 1
    _refuse_large(source, paths, headers, channels)
    shape_CHW = (channels, *_size(source, paths, headers))

    def split(files: Sequence[LabelledFile]) -> Split:
        return Split(
            labels=np.asarray([file.label for file in files], np.int64),
            read=functools.partial(_read_pictures, [file.path for file in files], shape_CHW, reader),
        )

    return Catalogue(name=source.path.name, classes=classes, train=split(train), test=split(test))


def _read_pictures(
    paths: Sequence[Path], shape_CHW: tuple[int, int, int], reader: PictureFormat, places: NDArray[np.int64]
) -> NDArray[np.uint8]:
    pixels_NCHW = np.empty((len(places), *shape_CHW), np.uint8)
    for row, place in enumerate(places):
        pixels_NCHW[row] = read_picture(paths[place], shape_CHW, reader)
    return pixels_NCHW


def _refuse_large(
    source: PictureSource, paths: Sequence[Path], headers: Sequence[PictureHeader], channels: int
) -> None:
    kept = 0
    for path, header in zip(paths, headers, strict=True):
        if header.width * header.height * 3 > source.most_bytes:
            raise DataError(f"{path} says it is {header.width}x{header.height}, above most_bytes = {source.most_bytes}")
        kept += channels * (source.side_px**2 if source.side_px else header.width * header.height)
    if kept > source.most_bytes:
        raise DataError(f"the pictures of {source.path} take {kept} bytes, above most_bytes = {source.most_bytes}")


def _size(source: PictureSource, paths: Sequence[Path], headers: Sequence[PictureHeader]) -> tuple[int, int]:
    if source.side_px is not None:
        return source.side_px, source.side_px
    first = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if (header.width, header.height) != (first.width, first.height):
            raise DataError(
                f"pictures differ in size: {paths[0]} is {first.width}x{first.height}, {path} is "
                f"{header.width}x{header.height}; set side_px"
            )
    return first.height, first.width
