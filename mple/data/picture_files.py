"""Sets of picture files, whatever their format: headers first, pixels of the chosen part later.

Legend: N images, C channels, H W size.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data.images import Catalogue, DataError, Split
from mple.data.partitions import hold_out
from mple.data.settings import Channels, DataSource


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a file says about its picture."""

    width: int
    height: int
    is_grey: bool


class PictureFormat(Protocol):
    """How to read one file."""

    def header(self, path: Path) -> PictureHeader:
        """Read what the file says, without its pixels.

        Raises:
            DataError: It can't be read, or it is no single picture.
        """

    def picture(self, path: Path) -> Image.Image:
        """Read the picture in Pillow's mode L or RGB, 8 bits a value.

        Raises:
            DataError: It can't be read.
        """


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file and the number of its class."""

    path: Path
    label: int


def file_catalogue(
    source: DataSource,
    name: str,
    classes: tuple[str, ...],
    splits: tuple[Sequence[LabelledFile], Sequence[LabelledFile] | None],
    reader: PictureFormat,
) -> Catalogue:
    """Look at all headers, agree on channels and size, hold out test files where there are none.

    Args:
        source: `side_px`, `channels`, `test_share`, `seed` and `most_bytes` are used.
        name: Of the set.
        classes: Class names.
        splits: Train and test files; None for the second asks to hold out `test_share` of the first.
        reader: How to read a file.

    Raises:
        DataError: There is no training file, one can't be read, sizes differ and `side_px` is missing, or all are
            larger than `most_bytes`.
    """
    train, test = splits
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

    return Catalogue(name=name, classes=classes, train=split(train), test=split(test))


def read_picture(path: Path, shape_CHW: tuple[int, int, int], reader: PictureFormat) -> NDArray[np.uint8]:
    """One picture in this shape: converted to 1 or 3 channels, resized with antialiasing where its size differs.

    Raises:
        DataError: It can't be read.
    """
    channels, height, width = shape_CHW
    picture = reader.picture(path).convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels_HWC = np.asarray(picture, np.uint8).reshape(height, width, channels)
    return pixels_HWC.transpose(2, 0, 1)


def _read_pictures(
    paths: Sequence[Path], shape_CHW: tuple[int, int, int], reader: PictureFormat, places: NDArray[np.int64]
) -> NDArray[np.uint8]:
    pixels_NCHW = np.empty((len(places), *shape_CHW), np.uint8)
    for row, place in enumerate(places):
        pixels_NCHW[row] = read_picture(paths[place], shape_CHW, reader)
    return pixels_NCHW


def _refuse_large(source: DataSource, paths: Sequence[Path], headers: Sequence[PictureHeader], channels: int) -> None:
    kept = 0
    for path, header in zip(paths, headers, strict=True):
        if header.width * header.height * 3 > source.most_bytes:
            raise DataError(f"{path} says it is {header.width}x{header.height}, above most_bytes = {source.most_bytes}")
        kept += channels * (source.side_px**2 if source.side_px else header.width * header.height)
    if kept > source.most_bytes:
        raise DataError(f"the pictures of {source.path} take {kept} bytes, above most_bytes = {source.most_bytes}")


def _size(source: DataSource, paths: Sequence[Path], headers: Sequence[PictureHeader]) -> tuple[int, int]:
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
