"""The pictures of a prediction: files, files of a table, or the site's own test images, read as training read them.

Legend: N pictures, B of them, C channels, H W size.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.data import DataError, DataSource, open_source
from mple.data.label_table import read_label_table
from mple.data.names import is_system_name
from mple.data.picture_files import PictureFormat, PictureHeader, read_picture
from mple.data.picture_reading import PictureReading
from mple.model.settings import TaskKind
from mple.morph import ImageShape

_NO_PICTURES = {"dicomdir", "labels.csv"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """N pictures of the network's shape that can be read piece by piece."""

    names: tuple[str, ...]
    read: Callable[[slice], NDArray[np.uint8]]
    """uint8 pixels (B, C, H, W) of a part of them; raises `DataError` when one can't be read."""
    labels: NDArray[np.int64] | None = None
    """Class numbers (N), or 0, 1 and -1 for each label (N, L), where they are known."""

    def __len__(self) -> int:
        return len(self.names)


def picture_files(reading: PictureReading, paths: Sequence[Path], image: ImageShape, *, resize: bool) -> Pictures:
    """Picture files and, of folders, all files in them; every header is looked at before any picture is read.

    A site whose data are DICOM reads DICOM files with the configured window, any other site ordinary picture files.

    Args:
        reading: How the site reads pictures.
        paths: Files and folders. Of a folder, hidden files and what desktops and DICOM media leave are passed over.
        image: Shape that the network wants.
        resize: Whether pictures of another size are resized, as they also are where `side_px` says so.

    Raises DataError: there is no such file, one can't be read, is too large, has another size while neither `resize`
    nor `side_px` is given, or is in colour while the network's images are grey.
    """
    if image.channels not in (1, 3):
        raise DataError(f"picture files have 1 or 3 channels, the network's images {image.channels}; use --test")
    reader = reading.format()
    files = tuple(file for path in paths for file in _files(path))
    for file in files:
        header = reader.header(file)
        if header.width * header.height * 3 > reading.most_bytes:
            raise DataError(
                f"{file} says it is {header.width}x{header.height}, above most_bytes = {reading.most_bytes}"
            )
        if not resize and not reading.resized:
            _refuse_size(file, header, image)
        if image.channels == 1 and not header.is_grey and not reading.greyed:
            _refuse_colour(file, reader)
    return Pictures(tuple(map(str, files)), functools.partial(_read_files, files, image, reader))


def listed_files(
    reading: PictureReading, table: Path, classes: tuple[str, ...], task: TaskKind, image: ImageShape, *, resize: bool
) -> Pictures:
    """The files that a label table names, relative to its folder, with their labels; splits and patients in it are
    passed over. Of a task of labels an empty cell is unknown, and not scored.

    Raises DataError: as `read_label_table` and `picture_files`; the table is for the other task, or a label is none of
    the network's `classes`.
    """
    found = read_label_table(table, classes)
    rows = found.rows
    if bool(found.labels) != (task is TaskKind.LABELS):
        due = f"a column for each of {', '.join(classes)}" if task is TaskKind.LABELS else "a column label"
        raise DataError(f"{table}: the network is for a task of {task}; the table needs {due}")
    for row in rows if task is TaskKind.CLASSES else ():
        if row.label not in classes:
            raise DataError(f"{row.where}: the network has no class {row.label!r}; it has {', '.join(classes)}")
    pictures = picture_files(reading, [table.parent / row.file for row in rows], image, resize=resize)
    labels = [row.labels if task is TaskKind.LABELS else classes.index(row.label) for row in rows]
    return replace(pictures, labels=np.array(labels, np.int64))


def test_images(source: DataSource, most: int, image: ImageShape, classes: tuple[str, ...], task: TaskKind) -> Pictures:
    """The first `most` of the site's own test images, or all where there are fewer, with their labels.

    Raises DataError: the data can't be read, differ from the network in shape, task or classes, or there is no test
    image.
    """
    dataset = open_source(source)
    shape = dataset.train.shape
    if (shape, dataset.classes, dataset.task) != (image, classes, task):
        raise DataError(
            f"{dataset.name} has {_sizes(shape)} images of {dataset.task} {', '.join(dataset.classes)}; the network "
            f"takes {_sizes(image)} images of {task} {', '.join(classes)}: point [data] at what the run was made with"
        )
    images = dataset.test.take(np.arange(min(most, len(dataset.test)), dtype=np.int64))
    if not len(images):
        raise DataError(f"{dataset.name}: the site has no test image")
    names = tuple(f"test/{number}" for number in range(len(images)))
    return Pictures(names, lambda part: images.pixels_NCHW[part], images.labels)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"no picture file or folder at {path}")
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.name.lower() not in _NO_PICTURES
        and not any(map(is_system_name, file.relative_to(path).parts))
    ]
    if not files:
        raise DataError(f"folder {path} holds no picture")
    return files


def _refuse_size(file: Path, header: PictureHeader, image: ImageShape) -> None:
    if (header.width, header.height) != (image.width, image.height):
        found = ImageShape(channels=1 if header.is_grey else 3, height=header.height, width=header.width)
        raise DataError(
            f"picture {file} is {_sizes(found)} (channels x height x width), the network's images are {_sizes(image)}; "
            "give --resize to have it resized"
        )


def _refuse_colour(file: Path, reader: PictureFormat) -> None:
    """Grey pictures are often saved as colour ones; only colour that would be lost is refused."""
    pixels = np.asarray(reader.picture(file))
    if pixels.ndim == 3 and not (pixels == pixels[:, :, :1]).all():
        raise DataError(f"picture {file} is in colour, the network's images are grey; save it as grey")


def _read_files(files: tuple[Path, ...], image: ImageShape, reader: PictureFormat, part: slice) -> NDArray[np.uint8]:
    shape_CHW = (image.channels, image.height, image.width)
    return np.stack([read_picture(file, shape_CHW, reader) for file in files[part]])


def _sizes(image: ImageShape) -> str:
    return f"{image.channels}x{image.height}x{image.width}"
