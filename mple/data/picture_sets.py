"""Sets of picture files, whatever their format: headers first, pixels of the chosen part later.

Legend: N images, C channels, H W size.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.data.images import Catalogue, DataError, Split
from mple.data.label_table import EmptyLabels, read_label_table
from mple.data.names import class_numbers, shown, similar_name
from mple.data.partitions import hold_out
from mple.data.patients import Patients, number_patients
from mple.data.picture_files import PictureFormat, PictureHeader, read_picture
from mple.data.picture_reading import PictureReading
from mple.data.settings import DataSource, Validation
from mple.morph import ImageShape
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
    """Folder of the pictures; the one that they are fetched into, where they are in a PACS."""
    side_px: Annotated[int, Between(1, 4096)] | None = None
    """Pictures are resized to this width and height, their aspect ratio is not kept; by default all must be of one
    size."""
    channels: Channels = Channels.AUTO
    test_share: Annotated[float, Between(0, 1, below=True)] = 0.2
    """Without a test split: the share of each class held out for testing."""
    empty_labels: EmptyLabels = EmptyLabels.UNKNOWN

    def reading(self) -> PictureReading:
        """As the set's own files, resized and greyed as they are."""
        return PictureReading(
            resized=self.side_px is not None, greyed=self.channels is Channels.GREY, most_bytes=self.most_bytes
        )


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file and the number of its class, or its labels."""

    path: Path
    label: int | tuple[int, ...]
    patient: str = ""
    """Whose picture it is; empty where only the file itself may say so."""


def table_catalogue(source: PictureSource, table_path: Path) -> Catalogue:
    """The files that a label table names; the headers are looked at as `file_catalogue` does.

    Raises DataError: as `read_label_table`, `class_numbers` and `file_catalogue`, or `empty_labels` is for nothing.
    """
    table = read_label_table(table_path, source.classes, source.empty_labels)
    rows, classes, numbers = table.rows, table.labels, {"": 0}
    used = [row for row in rows if row.split != "val" or source.validation is not Validation.IGNORED]
    if not classes:
        if source.empty_labels is not EmptyLabels.UNKNOWN:
            empty = f'empty_labels = "{source.empty_labels}"'
            raise DataError(f"{empty} is for tables without the column label of {table_path}")
        classes, numbers = class_numbers({row.label for row in used}, source.classes, f"labels in {table_path}")
    for row in used:
        path = source.path / row.file
        if not path.exists() and (similar := similar_name(path.parent, path.name)):
            raise DataError(f"{row.where}: {path.name!a} is not there, but {similar!a} is; write it so")
    over = ", ".join(table.passed_over)
    notes = (f"columns of {table_path} that are passed over: {over}",) if over else ()
    divided = any(row.split for row in rows)
    files: dict[str, list[LabelledFile]] = {
        split: [] for split in (("train", "val", "test") if divided else ("train",))
    }
    for row in used:
        file = LabelledFile(source.path / row.file, row.labels or numbers[row.label], row.patient)
        files[row.split or "train"].append(file)
    return file_catalogue(source, classes, files, notes)


def file_catalogue(
    source: PictureSource,
    classes: tuple[str, ...],
    splits: Mapping[str, Sequence[LabelledFile]],
    notes: tuple[str, ...] = (),
) -> Catalogue:
    """Look at all headers, agree on channels and size, hold out test files where there are none.

    The set is named as its folder. Splits are named as in `SPLITS`; where there is none but `train`, `test_share` of it
    is held out, whole patients where the files say whose they are. Validation files are trained on where the source
    says so, behind the others.

    Raises DataError: there is no training file, one can't be read, leads out of the folder or is there twice, sizes
    differ and `side_px` is missing, all are larger than `most_bytes`, or some say whose they are and others don't.
    """
    trained = ("train", "val") if source.validation is Validation.TRAIN else ("train",)
    if not any(splits.get(name) for name in trained):
        raise DataError(f"{shown(source.path)} holds no training picture")
    order = ("train", "val", "test")
    files = [file for name in order for file in splits.get(name, ())]
    paths = [file.path for file in files]
    _refuse_links(source.path, paths)
    reader = source.reading().format()
    headers = [reader.header(path) for path in paths]
    channels = 1 if source.channels is Channels.GREY else 3
    if source.channels is Channels.AUTO and all(header.is_grey for header in headers):
        channels = 1
    _refuse_large(source, paths, headers, channels)
    height, width = _size(source, paths, headers)
    labels = np.asarray([file.label for file in files], np.int64)
    patients = _patients(source, files, headers)
    of_N = np.repeat(order, [len(splits.get(name, ())) for name in order])
    of_N[np.isin(of_N, trained)] = "train"
    if "test" not in splits:
        of_N = np.where(hold_out(labels, source.test_share, source.seed, patients), "test", "train")

    def split(name: str) -> Split:
        places = np.flatnonzero(of_N == name)
        return Split(
            labels=labels[places],
            read=functools.partial(_read_pictures, [paths[i] for i in places], (channels, height, width), reader),
            values=functools.partial(_values, [paths[i] for i in places], reader) if reader.has_values else None,
            patients=None if patients is None else patients[places],
        )

    return Catalogue(
        name=source.path.name,
        classes=classes,
        shape=ImageShape(channels=channels, height=height, width=width),
        train=split("train"),
        test=split("test"),
        val=split("val"),
        notes=(*notes, *_range_notes(headers)),
        file_sizes=tuple((header.width, header.height) for header in headers),
    )


def _range_notes(headers: Sequence[PictureHeader]) -> tuple[str, ...]:
    stretched = sum(header.stretched for header in headers)
    if not stretched:
        return ()
    return (
        f"own range: {stretched} of {len(headers)} pictures have no window, so that each is stretched from its lowest "
        "to its highest value; to show equal values alike, set window in [data]",
    )


def _patients(
    source: PictureSource, files: Sequence[LabelledFile], headers: Sequence[PictureHeader]
) -> NDArray[np.int64] | None:
    if source.patients is Patients.IGNORED:
        return None
    said = [file.patient for file in files]
    return number_patients(said if any(said) else [header.patient for header in headers], shown(source.path))


def _refuse_links(folder: Path, paths: Sequence[Path]) -> None:
    """A file belongs to the folder, and counts once, under whatever names it lies there."""
    top = os.path.realpath(folder)
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        real = os.path.realpath(path)
        if os.path.commonpath((top, real)) != top:
            raise DataError(f"{shown(path)} is a link out of {shown(folder)}, to {shown(real)}; copy the file instead")
        try:
            about = os.stat(real)
        except OSError:  # the reader of its header says what is wrong
            continue
        first = seen.setdefault((about.st_dev, about.st_ino), path)
        if first is not path and about.st_ino:
            raise DataError(f"{shown(first)} and {shown(path)} are one file under two names; take one away")


def _read_pictures(
    paths: Sequence[Path], shape_CHW: tuple[int, int, int], reader: PictureFormat, places: NDArray[np.int64]
) -> NDArray[np.uint8]:
    pixels_NCHW = np.empty((len(places), *shape_CHW), np.uint8)
    for row, place in enumerate(places):
        pixels_NCHW[row] = read_picture(paths[place], shape_CHW, reader)
    return pixels_NCHW


def _values(
    paths: Sequence[Path], reader: PictureFormat, places: NDArray[np.int64]
) -> Iterator[NDArray[np.float64] | None]:
    return (reader.values(paths[place]) for place in places)


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
