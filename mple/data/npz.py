"""`.npz` files as MedMNIST publishes them, and such with the keys x_train, y_train, x_test, y_test.

Images are uint8 (n, H, W) or (n, H, W, C) with up to four channels, labels whole numbers (n) or (n, 1).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mple.data.images import MOST_CHANNELS, Catalogue, DataError, Split, numbered_classes
from mple.data.npz_file import ArrayHeader, NpzFile
from mple.data.settings import DataSource, Validation

_KEYS = (
    (("train_images", "train_labels"), ("val_images", "val_labels"), ("test_images", "test_labels")),
    (("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")),
)
"""Of images and labels for training, validation and testing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NpzSource(DataSource):
    """One NumPy archive with MedMNIST's keys, or x_train, y_train, x_test, y_test."""

    kind: Literal["npz"] = "npz"
    path: Path
    """The file."""

    def catalogue(self) -> Catalogue:
        """Read the labels of the file and judge its arrays.

        Raises DataError: it is missing, damaged, pickled or too large, or has other keys, dtypes or shapes; a label is
        out of range.
        """
        path = self.path
        with NpzFile(path, self.most_bytes) as file:
            keys = next(((train, val, test) for train, val, test in _KEYS if {*train, *test} <= file.names), None)
            if keys is None:
                wanted = ", or ".join(" ".join((*train, *test)) for train, _, test in _KEYS)
                raise DataError(f"{path} holds {', '.join(sorted(file.names)) or 'no array'}; needs {wanted}")
            train, val, test = keys
            train_keys = [train, val] if self.validation is Validation.TRAIN and set(val) <= file.names else [train]
            headers = [_image_header(file, path, images) for images, _ in (*train_keys, test)]
            shape = headers[0].shape[1:]
            for header, (images, _) in zip(headers, (*train_keys, test), strict=True):
                if header.shape[1:] != shape:
                    raise DataError(f"{path}: {images} are {header.shape[1:]}, {train[0]} are {shape}")
            if sum(header.n_bytes for header in headers) > self.most_bytes:
                raise DataError(f"{path}: its images exceed {self.most_bytes} bytes; raise most_bytes to read them")
            *train_labels, test_labels = (
                _labels(file, path, labels, header.shape[0])
                for header, (_, labels) in zip(headers, (*train_keys, test), strict=True)
            )
        labels = np.concatenate(train_labels)
        classes = numbered_classes(self.classes, np.concatenate([labels, test_labels]), str(path))
        read = functools.partial(_read_images, path, self.most_bytes, (*shape[:2], *(shape[2:] or (1,))))
        sizes = [len(part) for part in train_labels]
        return Catalogue(
            name=path.stem,
            classes=classes,
            train=Split(labels=labels, read=functools.partial(read, [images for images, _ in train_keys], sizes)),
            test=Split(labels=test_labels, read=functools.partial(read, [test[0]], [len(test_labels)])),
        )


def _image_header(file: NpzFile, path: Path, name: str) -> ArrayHeader:
    header = file.header(name)
    if header.dtype != np.uint8:
        raise DataError(f"{path}: {name} are {header.dtype}; save them as uint8 from 0 to 255")
    if len(header.shape) not in (3, 4) or min(header.shape[1:]) < 1:
        raise DataError(f"{path}: {name} have the shape {header.shape}; needs (n, H, W) or (n, H, W, C)")
    if len(header.shape) == 4 and header.shape[3] > MOST_CHANNELS:
        raise DataError(f"{path}: {name} have the shape {header.shape}; the last extent is channels, 1 to 4")
    return header


def _labels(file: NpzFile, path: Path, name: str, images: int) -> NDArray[np.int64]:
    header = file.header(name)
    if not np.issubdtype(header.dtype, np.integer):
        raise DataError(f"{path}: {name} are {header.dtype}; needs whole numbers, the class of each image")
    if len(header.shape) == 2 and header.shape[1] > 1:
        raise DataError(f"{path}: {name} have the shape {header.shape}; an image needs one label, not several")
    if header.shape not in ((images,), (images, 1)):
        raise DataError(f"{path}: {name} have the shape {header.shape} for {images} images")
    labels = file.read(name).reshape(-1)
    if labels.dtype == np.uint64 and labels.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {name} hold {labels.max()}, which is out of range")
    return labels.astype(np.int64)


def _read_images(
    path: Path,
    most_bytes: int,
    shape_HWC: tuple[int, ...],
    names: list[str],
    sizes: list[int],
    places: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Rows of the arrays `names` of `sizes`, counted through."""
    height, width, channels = shape_HWC
    pixels_NCHW = np.empty((len(places), channels, height, width), np.uint8)
    filled = first = 0
    with NpzFile(path, most_bytes) as file:
        for name, size in zip(names, sizes, strict=True):
            own = places[(places >= first) & (places < first + size)] - first
            first += size
            for rows in file.chunks(name, own):
                block_NHWC = rows.reshape(len(rows), *shape_HWC)
                pixels_NCHW[filled : filled + len(rows)] = block_NHWC.transpose(0, 3, 1, 2)
                filled += len(rows)
    if filled != len(places):
        raise DataError(f"{path} changed while it was read")
    return pixels_NCHW
