"""Picture files: how one is read, whatever its format.

Legend: C channels, H W size.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from mple.data.images import DataError
from mple.data.levels import to_levels
from mple.data.other_formats import other_format
from mple.data.picture_display import in_srgb, refuse_other_gamma, shown_size, turned
from mple.data.stored_values import is_grey, own_white, refuse_unreadable, stored_values

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Only these are decoded, whatever a file is called: some of Pillow's formats start other programs."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a file says about its picture."""

    width: int
    height: int
    is_grey: bool
    patient: str = ""
    """Whose picture it is, where the file says so; it stays in the reader."""
    stretched: bool = False
    """Its lowest value becomes black and its highest white, as nothing says what they are."""


class PictureFormat(Protocol):
    """How to read one file."""

    def header(self, path: Path) -> PictureHeader:
        """Read what the file says, without its pixels.

        Raises DataError: it can't be read, or it is no single picture.
        """

    def picture(self, path: Path) -> Image.Image:
        """Read the picture in Pillow's mode L or RGB, 8 bits a value. Raises DataError: it can't be read."""

    @property
    def has_values(self) -> bool:
        """Whether grey values are in a unit of their own, before they are shown."""

    def values(self, path: Path) -> NDArray[np.float64] | None:
        """Grey values in that unit, in no order, without padding; None of colours and of formats without. Raises
        DataError: it can't be read."""


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
    """Ordinary picture files, read by Pillow, as a viewer shows them: turned by their orientation, through palette and
    colour profile, 0 white where they say so. Nothing is clipped, and what is ambiguous is refused."""

    def __init__(self, white: float | None = None) -> None:
        """The stored value that is white, by default each file's own: 255, 65535, or the maximum of a PGM."""
        self._white = white

    def header(self, path: Path) -> PictureHeader:
        """Size, as shown, and colours of the picture in a file, without its pixels.

        Raises DataError: it can't be read, it is no single picture, or `white` is beyond its own.
        """
        with _opened(path) as picture:
            self._white_level(picture, path)
            return PictureHeader(*shown_size(picture, path), is_grey=is_grey(picture))

    def picture(self, path: Path) -> Image.Image:
        """The picture in a file, grey or RGB, 8 bits a value.

        Raises DataError: it can't be read, some pixel is transparent, or some value is below 0 or above white.
        """
        with _opened(path) as picture:
            white = self._white_level(picture, path)
            stored = stored_values(picture, path)
            levels = to_levels(stored.values, white, f"picture {path}")
            if stored.inverted:
                levels = 255 - levels
            if "icc_profile" in picture.info:
                levels = in_srgb(levels, picture.info["icc_profile"], path)
            return turned(Image.fromarray(levels), picture)

    has_values = False

    def values(self, path: Path) -> None:
        """None: they have no unit."""

    def _white_level(self, picture: ImageFile.ImageFile, path: Path) -> float:
        own, white = own_white(picture), self._white
        if own is None:
            if white is None:
                raise DataError(
                    f"picture {path} has float, signed or 32-bit values, which have no white of their own; "
                    "set white in [data] to the value that is white"
                )
            return white
        if white is not None and white > own:
            raise DataError(f"picture {path} holds values up to {own:g}, so that white = {white:g} can't be meant")
        return own if white is None else white


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("error", "Corrupt EXIF data")  # what lies behind would be passed over
            # Not by its path: Pillow would map the file, and take a mapped TIFF's rows as long as the turned ones.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
                refuse_unreadable(picture, path)
                refuse_other_gamma(picture, path)
                yield picture
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as fault:
        raise DataError(f"picture {path} is too large to be decoded: {fault}") from None
    except UnidentifiedImageError:
        kind = other_format(path) or "of no kind that is read; convert it to PNG with 8 or 16 bits: magick in out.png"
        raise DataError(f"picture {path} can't be read: it is {kind}") from None
    except (
        OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, UserWarning, struct.error,
        zlib.error,
    ) as fault:  # fmt: skip
        raise DataError(f"picture {path} can't be read: {fault}") from None
