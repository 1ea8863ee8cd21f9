"""CIFAR-10 (Krizhevsky, 2009) in its official binary layout.

Six files of 10,000 records: a label byte, then 3 x 32 x 32 pixels, channel by channel. Their MD5 sums are known, so
whatever else lies under these names is refused.
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.data.images import Catalogue, DataError, Split, numbered_classes
from mple.data.settings import DataSource
from mple.disk.stamps import stamp_of
from mple.morph import ImageShape
from mple.per_node import Common

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
SIDE_PX = 32
RECORD_BYTES = 1 + 3 * SIDE_PX * SIDE_PX
_FEW = 8
"""Where less than one in so many of a file's records is wanted, each is read by itself."""
_BLOCK_RECORDS = 1000
CIFAR10_MD5: Mapping[str, str] = MappingProxyType(
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    }
)


def default_data_folder() -> Path:
    """Where fetched data sets are kept: `MPLE_DATA`, or `.cache/mple` in the home folder."""
    chosen = os.environ.get("MPLE_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "mple"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10Source(DataSource):
    """The official binary files, as `mple data fetch cifar10` keeps them."""

    kind: Literal["cifar10"] = "cifar10"
    path: Path | None = None
    """Folder with the files; by default the one that `mple data fetch` fills."""

    @override
    def catalogue(self) -> Catalogue:
        return cifar10_catalogue(self)

    @override
    def outline(self) -> Catalogue:
        return cifar10_catalogue(self, verified=False)


def cifar10_catalogue(
    source: Cifar10Source, checksums: Mapping[str, str] = CIFAR10_MD5, *, verified: bool = True
) -> Catalogue:
    """Verify the files by their MD5 and read their labels; without a path: of `cifar10` in `default_data_folder`. Not
    `verified` ones are only looked for: to read all of them takes a third of a second.

    Raises DataError: a file is missing or has another checksum, or `classes` are fewer than ten.
    """
    folder = source.path or default_data_folder() / "cifar10"
    due = checksums if verified else dict.fromkeys(checksums)
    key = folder.absolute(), tuple(due.items()), stamp_of(*(folder / name for name in due))
    train, test, train_labels, test_labels = _files.get(key, lambda: _verified(folder, due))
    every_label = np.concatenate([train_labels, test_labels])
    return Catalogue(
        name="cifar10",
        classes=numbered_classes(source.classes or CIFAR10_CLASSES, every_label, str(folder)),
        shape=ImageShape(channels=3, height=SIDE_PX, width=SIDE_PX),
        train=Split(labels=train_labels, read=functools.partial(_read_images, train)),
        test=Split(labels=test_labels, read=functools.partial(_read_images, test)),
    )


_Verified = tuple[list[Path], list[Path], NDArray[np.int64], NDArray[np.int64]]
"""Files of training and of test pictures, and their labels."""
_files: Common[object, _Verified] = Common()
"""The public files: many sites of one process read the checksums once, and each its own pictures."""


def _verified(folder: Path, checksums: Mapping[str, str | None]) -> _Verified:
    known = {name: expected for name, expected in checksums.items() if expected is not None}
    faults = faulty_files(folder, known) or [name for name in checksums if not (folder / name).is_file()]
    if faults:
        some = any((folder / name).exists() for name in faults)
        what = f"{folder / faults[0]} is missing or damaged" if some else f"CIFAR-10 is not in {folder}"
        raise DataError(f"{what}; run 'mple data fetch cifar10 --to {folder}'")
    train = [folder / name for name in TRAIN_FILES]
    test = [folder / TEST_FILE]
    labels = _labels(train), _labels(test)
    for each in labels:
        each.flags.writeable = False
    return train, test, *labels


def faulty_files(folder: Path, checksums: Mapping[str, str] = CIFAR10_MD5) -> list[str]:
    """Names of files that are missing in the folder or differ from their checksum."""
    return [name for name, expected in checksums.items() if _file_md5(folder / name) != expected]


def _file_md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _count(path: Path) -> int:
    """Of a file's records."""
    count, rest = divmod(path.stat().st_size, RECORD_BYTES)
    if rest or not count:
        raise DataError(f"{path} has {path.stat().st_size} bytes, which is no multiple of {RECORD_BYTES}")
    return count


def _blocks(path: Path) -> Iterator[NDArray[np.uint8]]:
    """A file's records, some MiB at a time: a mapped file would count as this process's memory."""
    count = _count(path)
    with path.open("rb", buffering=0) as file:
        for low in range(0, count, _BLOCK_RECORDS):
            size = min(_BLOCK_RECORDS, count - low)
            yield np.fromfile(file, np.uint8, size * RECORD_BYTES).reshape(size, RECORD_BYTES)


def _few(path: Path, places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Single records of a file: a small part, as one of a thousand sites has, is not worth reading all of it."""
    records = np.empty((len(places), RECORD_BYTES), np.uint8)
    with path.open("rb", buffering=0) as file:
        for record, place in zip(records, places.tolist(), strict=True):
            file.seek(place * RECORD_BYTES)
            file.readinto(record.data)
    return records


def _labels(paths: Sequence[Path]) -> NDArray[np.int64]:
    return np.concatenate([block[:, 0].astype(np.int64) for path in paths for block in _blocks(path)])


def _read_images(paths: Sequence[Path], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    pixels_NCHW = np.empty((len(places), 3, SIDE_PX, SIDE_PX), np.uint8)
    first = 0
    for path in paths:
        count = _count(path)
        low, high = np.searchsorted(places, (first, first + count))
        if (high - low) * _FEW < count:
            records = _few(path, places[low:high] - first)
            pixels_NCHW[low:high] = records[:, 1:].reshape(-1, 3, SIDE_PX, SIDE_PX)
            first += count
            continue
        for records in _blocks(path):
            low, high = np.searchsorted(places, (first, first + len(records)))
            pixels_NCHW[low:high] = records[places[low:high] - first, 1:].reshape(-1, 3, SIDE_PX, SIDE_PX)
            first += len(records)
    return pixels_NCHW
