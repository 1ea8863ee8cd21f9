"""Image folders: a folder for each class, under `train/` and `test/` (and `val/`), or all under one root.

Class folders hold picture files and nothing else; hidden files and what desktops leave behind are passed over, any
other stray file is an error, since a picture that is silently left out changes results.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mple.data.images import Catalogue, DataError
from mple.data.picture_files import LabelledFile, PictureHeader, file_catalogue
from mple.data.settings import DataSource, Validation

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Only these are decoded, whatever a file is called: some of Pillow's formats start other programs."""
_LEFT_BY_DESKTOPS = {"thumbs.db", "desktop.ini"}
_GREY_MODES = {"1", "L", "LA", "La"}
_GREY_16_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def folder_catalogue(source: DataSource, path: Path) -> Catalogue:
    """List a folder's pictures and read their headers.

    Classes are the folders' names, sorted, or `classes` in the order given; then a class may lack its folder.

    Raises:
        DataError: No such folder, a class folder that `classes` doesn't name, a stray file, an unreadable picture.
    """
    if not path.is_dir():
        raise DataError(f"no image folder at {path}")
    roots = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
    if not roots:
        classes = _class_names(source, [path])
        return file_catalogue(source, path.name, classes, (_files(path, classes), None), PictureFiles())
    if not {"train", "test"} <= set(roots):
        raise DataError(f"{path} has {', '.join(roots)}; needs train and test, or class folders without any of them")
    if source.validation is Validation.IGNORED:
        roots.pop("val", None)
    classes = _class_names(source, list(roots.values()))
    train = [file for name, root in roots.items() if name != "test" for file in _files(root, classes)]
    return file_catalogue(source, path.name, classes, (train, _files(roots["test"], classes)), PictureFiles())


class PictureFiles:
    """Ordinary picture files, read by Pillow.

    16-bit grey values are divided by 257, as 65535 is white; transparency is dropped.
    """

    def header(self, path: Path) -> PictureHeader:
        """See `PictureFormat`."""
        with _opened(path) as picture:
            return PictureHeader(*picture.size, is_grey=picture.mode in _GREY_MODES | _GREY_16_BIT_MODES)

    def picture(self, path: Path) -> Image.Image:
        """See `PictureFormat`."""
        with _opened(path) as picture:
            if picture.mode in _GREY_16_BIT_MODES:
                values = np.asarray(picture).astype(np.uint32)
                return Image.fromarray(((values + 128) // 257).astype(np.uint8))
            return picture.convert("L" if picture.mode in _GREY_MODES else "RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                if getattr(picture, "n_frames", 1) > 1:
                    raise DataError(f"picture {path} holds several frames; save each as a file")
                if picture.mode not in _GREY_MODES | _GREY_16_BIT_MODES | _COLOUR_MODES:
                    raise DataError(f"picture {path} has Pillow's mode {picture.mode}; save it with 8 or 16 bits")
                yield picture
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as fault:
        raise DataError(f"picture {path} is too large to be decoded: {fault}") from None
    except (
        OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, struct.error, zlib.error
    ) as fault:  # fmt: skip
        raise DataError(f"picture {path} can't be read: {fault}") from None


def _class_names(source: DataSource, roots: Sequence[Path]) -> tuple[str, ...]:
    folders = {folder.name: folder for root in roots for folder in root.iterdir() if _is_class_folder(folder)}
    if not source.classes:
        if len(folders) < 2:
            raise DataError(f"{source.path} has the class folders {sorted(folders)}; needs two, or `classes`")
        return tuple(sorted(folders))
    for name, folder in sorted(folders.items()):
        if name not in source.classes:
            raise DataError(f"folder {folder} is none of classes = {list(source.classes)}; add or move it")
    return source.classes


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "__MACOSX"))


def _files(root: Path, classes: Sequence[str]) -> list[LabelledFile]:
    found = []
    for label, name in enumerate(classes):
        folder = root / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(".") or path.name.lower() in _LEFT_BY_DESKTOPS:
                continue
            if path.suffix.lower() not in _ENDINGS or not path.is_file():
                raise DataError(f"{path} is no picture file; class folders hold {', '.join(sorted(_ENDINGS))} only")
            found.append(LabelledFile(path, label))
    return found
