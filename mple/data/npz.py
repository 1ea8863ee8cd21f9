"""`.npz` files as MedMNIST publishes them, such with the keys x_train, y_train, x_test, y_test, and undivided ones.

Images are uint8 (n, H, W) or (n, H, W, C) with up to four channels, or other numbers with `white`; labels whole
numbers: class numbers (n) or (n, 1), or for k labels (n, k) of 1, 0 and -1, unknown; patients numbers or texts, (n) or
(n, 1).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from mple.data.images import MOST_CHANNELS, Catalogue, DataError, Split, numbered_classes
from mple.data.levels import White, to_levels
from mple.data.limits import MOST_LABELS
from mple.data.names import SPLIT_WORDS
from mple.data.npz_file import ArrayHeader, NpzFile
from mple.data.partitions import hold_out
from mple.data.patients import Patients, number_patients
from mple.data.picture_reading import PictureReading
from mple.data.settings import DataSource, Validation
from mple.morph import ImageShape
from mple.ranges import Between

_STYLES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
_UNDIVIDED = (("images", "labels"), ("x", "y"))
_PATIENTS = ("{}_patients", "{}_patient", "patient_{}", "patients_{}")
"""Of one split, in either style; undivided without its name."""
_MOST_TEXT_BYTES = 1024
_WANTED = "train_images train_labels test_images test_labels, or x_train y_train x_test y_test, or undivided: x y"


@dataclass(frozen=True, kw_only=True, slots=True)
class NpzSource(DataSource):
    """One NumPy archive with MedMNIST's keys, with x_train, y_train, x_test, y_test, or undivided: x and y.

    Patients of a split are in `train_patients` or `patient_train`, with or without an s, undivided in `patient`."""

    kind: Literal["npz"] = "npz"
    path: Path
    """The file."""
    white: White | None = None
    """The value that becomes white, level 255, 0 being black; by default 255 of uint8. Other whole numbers and floats
    need it, and picture files of a prediction are read with it. Values above it are refused."""
    test_share: Annotated[float, Between(0, 1, below=True)] = 0.2
    """Without a test split: the share of each class held out for testing."""

    def reading(self) -> PictureReading:
        """As ordinary files, up to `white`."""
        return PictureReading(white=self.white, most_bytes=self.most_bytes)

    def catalogue(self) -> Catalogue:
        """Read the labels of the file and judge its arrays.

        Raises DataError: it is missing, damaged, pickled or too large, or has other keys, dtypes or shapes; a label is
        out of range, or a class has no image.
        """
        path = self.path
        with NpzFile(path, self.most_bytes) as file:
            splits = _splits(path, file.names)
            used = [name for name in ("train", "val", "test") if name in splits]
            if self.validation is Validation.IGNORED and "val" in used:
                used.remove("val")
            parts = [_read_part(file, path, splits[name], self) for name in used]
            shape = parts[0].header.shape[1:]
            for part in parts:
                if part.header.shape[1:] != shape:
                    text = f"{part.images} are {part.header.shape[1:]}, {parts[0].images} are {shape}"
                    raise DataError(f"{path}: {text}")
            if sum(part.header.n_bytes for part in parts) > self.most_bytes:
                raise DataError(f"{path}: its images exceed {self.most_bytes} bytes; raise most_bytes to read them")
        labels = _all_labels(path, parts)
        patients = number_patients([name for part in parts for name in part.patients], str(path))
        classes = numbered_classes(self.classes, labels, str(path))
        of_N = np.repeat(used, [len(part.labels) for part in parts])
        if "test" not in used:
            of_N = np.where(hold_out(labels, self.test_share, self.seed, patients), "test", "train")
        if self.validation is Validation.TRAIN:
            of_N[of_N == "val"] = "train"
        height, width, channels = (*shape, 1)[:3]
        read = functools.partial(
            _read_images,
            path,
            self.most_bytes,
            self.white or 255,
            (height, width, channels),
            [(part.images, len(part.labels)) for part in parts],
        )

        def split(name: str) -> Split:
            places = np.flatnonzero(of_N == name)
            return Split(
                labels=labels[places],
                read=lambda chosen: read(places[chosen]),
                patients=None if patients is None else patients[places],
            )

        return Catalogue(
            name=path.stem,
            classes=classes,
            shape=ImageShape(channels=channels, height=height, width=width),
            train=split("train"),
            test=split("test"),
            val=split("val"),
        )


@dataclass(frozen=True, slots=True)
class _Part:
    images: str
    header: ArrayHeader
    labels: NDArray[np.int64]
    patients: Sequence[str]
    """Empty texts where the file does not say, or is not asked."""


def _splits(path: Path, names: frozenset[str]) -> dict[str, tuple[str, str, str]]:
    """Names of the arrays of images, labels and patients (an empty one where there are none) of each split; undivided
    ones are train."""
    found: dict[str, tuple[str, str, str]] = {}
    known: set[str] = set()
    candidates = [
        (split, images.format(word), labels.format(word), [name.format(word) for name in _PATIENTS])
        for images, labels in _STYLES
        for split, words in SPLIT_WORDS.items()
        for word in words
    ]
    for split, images, labels, of_patients in (
        *candidates,
        *(("train", *keys, ["patient", "patients"]) for keys in _UNDIVIDED),
    ):
        have = names & {images, labels}
        if not have:
            continue
        lacking = {images, labels} - have
        if lacking:
            raise DataError(f"{path} holds {', '.join(sorted(have))} without {sorted(lacking)[0]}; needs {_WANTED}")
        if split in found:
            raise DataError(f"{path} holds {found[split][0]} and {images}, both the {split} split; make them one")
        patients = sorted(names & set(of_patients))
        if len(patients) > 1:
            raise DataError(
                f"{path} holds {patients[0]} and {patients[1]}, both the patients of {images}; make them one"
            )
        found[split] = images, labels, "".join(patients)
        known |= {*have, *patients}
    divided = {"train", "test"} <= set(found)
    if not divided and (set(found) != {"train"} or not known & {"x", "images"}):
        raise DataError(f"{path} holds {', '.join(sorted(names)) or 'no array'}; needs {_WANTED}")
    if divided and known & {"x", "images"}:
        raise DataError(f"{path} holds an undivided set beside a test split; needs {_WANTED}")
    if names - known:
        raise DataError(
            f"{path} holds {sorted(names - known)[0]}, which means nothing here; needs {_WANTED}: save it apart"
        )
    return found


def _read_part(file: NpzFile, path: Path, names: tuple[str, str, str], source: NpzSource) -> _Part:
    images, labels, patients = names
    header = _image_header(file, path, images, source.white)
    count = header.shape[0]
    said: Sequence[str] = [""] * count
    if patients in file.names and source.patients is not Patients.IGNORED:
        column = _column(file, path, patients, count, "iuUS", "whole numbers or texts")
        said = [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in column]
    return _Part(images, header, _labels(file, path, labels, count), said)


def _image_header(file: NpzFile, path: Path, name: str, white: float | None) -> ArrayHeader:
    header = file.header(name)
    kind, bits = header.dtype.kind, 8 * header.dtype.itemsize
    if header.dtype != np.uint8 and (white is None or kind not in "uif"):
        out = "set white in [data], the value of white, or save them as uint8 from 0 to 255"
        raise DataError(f"{path}: {name} are {header.dtype}; {out}")
    if white is not None and kind in "ui" and white >= 2 ** (bits - (kind == "i")):
        raise DataError(f"{path}: {name} are {header.dtype}, so that white = {white:g} can't be meant")
    if len(header.shape) not in (3, 4) or min(header.shape[1:]) < 1:
        raise DataError(f"{path}: {name} have the shape {header.shape}; needs (n, H, W) or (n, H, W, C)")
    if len(header.shape) == 4 and header.shape[3] > MOST_CHANNELS:
        raise DataError(f"{path}: {name} have the shape {header.shape}; the last extent is channels, 1 to 4")
    return header


def _labels(file: NpzFile, path: Path, name: str, images: int) -> NDArray[np.int64]:
    needs = "whole numbers, the class of each image, or 1, 0 or -1 (unknown) for each label"
    labels = _column(file, path, name, images, "iu", needs, several=True)
    if labels.dtype == np.uint64 and labels.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {name} hold {labels.max()}, which is out of range")
    return labels.astype(np.int64)


def _all_labels(path: Path, parts: Sequence[_Part]) -> NDArray[np.int64]:
    """Of all splits, which must be alike."""
    for part in parts:
        if part.labels.shape[1:] != parts[0].labels.shape[1:]:
            one, other = (f"{one.images} have labels of shape {one.labels.shape}" for one in (part, parts[0]))
            raise DataError(f"{path}: {one}, {other}; save classes (n) or as many labels (n, k) in each split")
    return np.concatenate([part.labels for part in parts])


def _column(
    file: NpzFile, path: Path, name: str, images: int, kinds: str, needs: str, *, several: bool = False
) -> NDArray[np.generic]:
    header = file.header(name)
    if header.dtype.kind not in kinds:
        raise DataError(f"{path}: {name} are {header.dtype}; needs {needs}")
    if header.dtype.itemsize > _MOST_TEXT_BYTES:
        raise DataError(f"{path}: {name} are {header.dtype}; at most {_MOST_TEXT_BYTES} bytes for each are read")
    if several and len(header.shape) == 2 and header.shape[0] == images and 1 < header.shape[1] <= MOST_LABELS:
        return file.read(name)
    if not several and len(header.shape) == 2 and header.shape[1] > 1:
        raise DataError(f"{path}: {name} have the shape {header.shape}; an image needs one, not several")
    if header.shape not in ((images,), (images, 1)):
        raise DataError(f"{path}: {name} have the shape {header.shape} for {images} images")
    return file.read(name).reshape(-1)


def _read_images(
    path: Path,
    most_bytes: int,
    white: float,
    shape_HWC: tuple[int, int, int],
    arrays: Sequence[tuple[str, int]],
    places: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Rows of the arrays of these names and sizes, counted through."""
    height, width, channels = shape_HWC
    pixels_NCHW = np.empty((len(places), channels, height, width), np.uint8)
    filled = first = 0
    with NpzFile(path, most_bytes) as file:
        for name, size in arrays:
            own = places[(places >= first) & (places < first + size)] - first
            first += size
            for rows in file.chunks(name, own) if len(own) else ():
                block_NHWC = to_levels(rows, white, f"{path}: {name}").reshape(len(rows), *shape_HWC)
                pixels_NCHW[filled : filled + len(rows)] = block_NHWC.transpose(0, 3, 1, 2)
                filled += len(rows)
    if filled != len(places):
        raise DataError(f"{path} changed while it was read")
    return pixels_NCHW
