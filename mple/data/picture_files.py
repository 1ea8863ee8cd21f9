"""Picture files: how one is read, whatever its format.

Legend: C channels, H W size.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data.images import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Only these are decoded, whatever a file is called: some of Pillow's formats start other programs."""
_GREY_MODES = {"1", "L", "LA", "La"}
_GREY_16_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a file says about its picture."""

    width: int
    height: int
    is_grey: bool
    patient: str = ""
    """Whose picture it is, where the file says so; it stays in the reader."""


class PictureFormat(Protocol):
    """How to read one file."""

    def header(self, path: Path) -> PictureHeader:
        """Read what the file says, without its pixels.

        Raises DataError: it can't be read, or it is no single picture.
        """

    def picture(self, path: Path) -> Image.Image:
        """Read the picture in Pillow's mode L or RGB, 8 bits a value. Raises DataError: it can't be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SinglePictures:
    """How pictures that are no part of a set are read, for a prediction."""

    format: PictureFormat = field(default_factory=lambda: PictureFiles())
    resized: bool = False
    """Whatever their size, they are resized to what is needed."""
    greyed: bool = False
    """Where grey is needed, colour is dropped."""


def read_picture(path: Path, shape_CHW: tuple[int, int, int], reader: PictureFormat) -> NDArray[np.uint8]:
    """One picture in this shape: converted to 1 or 3 channels, resized with antialiasing where its size differs.

    Raises DataError: it can't be read.
    """
    channels, height, width = shape_CHW
    picture = reader.picture(path).convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels_HWC = np.asarray(picture, np.uint8).reshape(height, width, channels)
    return pixels_HWC.transpose(2, 0, 1)


class PictureFiles:
    """Ordinary picture files, read by Pillow. 16-bit grey values are divided by 257, as 65535 is white; transparency is
    dropped."""

    def header(self, path: Path) -> PictureHeader:
        """Size and colours of the picture in a file, without its pixels."""
        with _opened(path) as picture:
            return PictureHeader(*picture.size, is_grey=picture.mode in _GREY_MODES | _GREY_16_BIT_MODES)

    def picture(self, path: Path) -> Image.Image:
        """The picture in a file, grey or RGB, 8 bits a value."""
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
