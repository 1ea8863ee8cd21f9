"""What values a picture file stores, where Pillow by itself would narrow, misread or drop something.

Pillow keeps the upper byte of 16-bit colour, does not invert 16-bit grey whose 0 is white, reads signed bytes as
unsigned, and more; what it misreads is read here, or refused by name.

Legend: H W size.
"""

import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL import TiffImagePlugin as Tiff

from mple.data.images import DataError
from mple.data.pnm import Numbers, is_pnm, pnm_maximum, pnm_values

# Grey of 16 bits whose 0 is white: Pillow has the row for little-endian files only.
Tiff.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))

GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_MODES = GREY_MODES | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX"}
_DECODED = {"1": "L", "La": "LA", "P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}
_WITHOUT_WHITE = {"I", "F"}
_WIDE = (";16B", ";16L", ";16N")
_LOWER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Ends of Pillow's raw modes: the other byte order has the other byte in front, and that one is kept."""
_IMAGEJ_STACK = re.compile(r"ImageJ=[^\n]*\nimages=(\d{1,9})\n")
"""A large stack has one directory, and says here how many pictures follow the first."""
_NATIVE = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}


@dataclass(frozen=True, slots=True)
class StoredValues:
    """Values (H, W) or (H, W, 3) as they stand in a file, 0 the one end of the range."""

    values: Numbers
    white: float | None
    """The other end, by what the file says; None where it says nothing."""
    inverted: bool = False
    """0 is white, and the other end black."""


def is_grey(picture: ImageFile.ImageFile) -> bool:
    """Whether a picture that is open, but not yet decoded, is stored as grey."""
    return picture.mode in GREY_MODES or _raw_mode(picture).startswith("LA;16")


def own_white(picture: ImageFile.ImageFile) -> float | None:
    """The value that is white by what the file says, before it is decoded: None for float and signed values and those
    of 32 bits."""
    if is_pnm(picture):
        return pnm_maximum(picture)
    if picture.mode in _WITHOUT_WHITE:
        return None
    if _raw_mode(picture) == "I;12":
        return 4095
    return 65535 if picture.mode.startswith("I;16") or _raw_mode(picture).endswith(_WIDE) else 255


def refuse_unreadable(picture: ImageFile.ImageFile, path: Path) -> None:
    """Refuse a picture that is open, but not yet decoded, where it is no single picture or would be misread.

    Raises DataError: it holds several pictures; it is in ink colours, YCbCr or Lab without a conversion; its file lacks
    what it takes to read it, or is of a kind that Pillow misreads.
    """
    if getattr(picture, "n_frames", 1) > 1:
        raise DataError(f"picture {path} holds several frames; save each as a file")
    fault = ""
    if picture.mode == "CMYK":
        fault = "is in CMYK, ink colours that depend on the press; convert it: magick in -colorspace sRGB out.png"
    elif picture.mode not in _MODES:
        fault = f"has Pillow's mode {picture.mode}; save it as grey or RGB, with 8 or 16 bits"
    elif picture.format == "TIFF":
        fault = _tiff_fault(picture)
    elif picture.format == "BMP":
        fault = _bmp_fault(picture, path)
    if fault:
        raise DataError(f"picture {path} {fault}")


def stored_values(picture: ImageFile.ImageFile, path: Path) -> StoredValues:
    """Decode a picture that `refuse_unreadable` has let pass.

    Raises DataError: some pixel is transparent, for what lies behind it nobody knows; a colour number is outside the
    palette; a PNM file goes on after its picture.
    """
    white, raw_mode = own_white(picture), _raw_mode(picture)
    if is_pnm(picture):
        return StoredValues(pnm_values(picture, path), white)
    if picture.mode in ("RGB", "RGBA") and raw_mode.endswith(_WIDE):
        return StoredValues(_wide_colour(picture, path, raw_mode), white)
    if picture.format == "TIFF" and picture.tile[0].codec_name == "libtiff":
        # It swaps bytes itself, which Pillow forgets of numbers that are float or signed.
        _set_raw_mode(picture, _NATIVE.get(raw_mode, raw_mode))
    if picture.mode == "P":
        _refuse_outside_palette(picture, path)
    mode = _DECODED.get(picture.mode, picture.mode)
    if mode == "RGB" and "transparency" in picture.info:
        mode = "RGBA"
    values: Numbers = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    if mode in ("LA", "RGBA"):
        _refuse_transparent(values[..., -1] < 255, path)
        return StoredValues(values[..., 0] if mode == "LA" else values[..., :3], white)
    if "transparency" in picture.info:
        # Pillow widens grey of 2 and 4 bits, but not the value that is said to be transparent.
        step = {"L;2": 85, "L;4": 17}.get(raw_mode, 1)
        _refuse_transparent(values == picture.info["transparency"] * step, path)
    inverted = picture.format == "TIFF" and _tags(picture).get(Tiff.PHOTOMETRIC_INTERPRETATION) == 0
    if inverted and mode == "L":
        values = 255 - np.asarray(values, np.uint8)  # undone, for `white` is about what is stored
    return StoredValues(values, white, inverted)


def _tiff_fault(picture: ImageFile.ImageFile) -> str:
    tags = _tags(picture)
    sample_format, colours = tags.get(Tiff.SAMPLEFORMAT, (1,)), tags.get(Tiff.COLORMAP, (65535,))
    bits = tags.get(Tiff.BITSPERSAMPLE, (1,))
    stack = _IMAGEJ_STACK.match(str(tags.get(Tiff.IMAGEDESCRIPTION, "")))
    if stack and int(stack[1]) > 1:
        return f"holds {stack[1]} frames by ImageJ's description; save each as a file"
    if Tiff.PHOTOMETRIC_INTERPRETATION not in tags:
        return "doesn't say whether 0 is black or white (TIFF's PhotometricInterpretation); save it anew"
    if tags[Tiff.PHOTOMETRIC_INTERPRETATION] == 6 and tags.get(Tiff.COMPRESSION, 1) == 1:
        return "is in YCbCr without compression; save it as grey or RGB"
    if 2 in sample_format and 8 in bits:
        return "has signed bytes; save it with values from 0 to 255"
    if picture.mode == "P" and max(colours) < 256:
        return "has a palette that ends at 255, where TIFF wants 65535; save it anew"
    if tags.get(Tiff.PLANAR_CONFIGURATION) == 2 and 16 in bits:
        return "has 16-bit colours in planes of their own; save them interleaved (tiffcp -p contig in.tif out.tif)"
    return ""


def _tags(picture: ImageFile.ImageFile) -> Any:
    return getattr(picture, "tag_v2", {})


def _raw_mode(picture: ImageFile.ImageFile) -> str:
    args = picture.tile[0].args if picture.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _bmp_fault(picture: ImageFile.ImageFile, path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(74)
    header_bytes = struct.unpack_from("<I", head, 14)[0]
    bits = struct.unpack_from("<H", head, 24 if header_bytes == 12 else 28)[0]
    if picture.mode in ("1", "L") and bits != {"1": 1, "L": 8}[picture.mode]:
        return "is a bitmap whose grey palette is smaller than its bits; save it as PNG"
    if header_bytes >= 124 and head[70:74] in (b"DEBM", b"KNIL"):  # MBED, LINK, in little-endian
        return "is a bitmap with a colour profile, which is not read of those; save it as PNG"
    return ""


def _wide_colour(picture: ImageFile.ImageFile, path: Path, raw_mode: str) -> Numbers:
    """16-bit colour, or grey with alpha: Pillow keeps the upper bytes only, so the file is decoded for both."""
    if raw_mode == "LA;16B":
        _set_raw_mode(picture, "RGBA")  # grey and alpha, two bytes each
        bytes_HW4 = np.asarray(picture).astype(np.uint16)
        grey, alpha = bytes_HW4[..., 0] * 256 + bytes_HW4[..., 1], bytes_HW4[..., 2] * 256 + bytes_HW4[..., 3]
        _refuse_transparent(alpha < 65535, path)
        return grey
    with path.open("rb") as file, Image.open(file, formats=[str(picture.format)]) as again:
        _set_raw_mode(again, raw_mode[:-1] + _LOWER_BYTE[raw_mode[-1]])
        values: Numbers = np.asarray(picture).astype(np.uint16) * 256 + np.asarray(again)
    if values.shape[2] == 4:
        _refuse_transparent(values[..., 3] < 65535, path)
    if "transparency" in picture.info:
        _refuse_transparent((values[..., :3] == picture.info["transparency"]).all(axis=-1), path)
    return values[..., :3]


def _set_raw_mode(picture: ImageFile.ImageFile, raw_mode: str) -> None:
    picture.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in picture.tile
    ]


def _refuse_outside_palette(picture: ImageFile.ImageFile, path: Path) -> None:
    picture.load()
    colours = len(picture.getpalette() or ()) // 3
    highest = int(np.asarray(picture).max())
    if highest >= colours:
        raise DataError(f"picture {path} has the colour number {highest}, its palette only {colours} colours")


def _refuse_transparent(transparent: NDArray[np.bool_], path: Path) -> None:
    if transparent.any():
        raise DataError(
            f"picture {path} is transparent in {int(transparent.sum())} pixels; lay it on the background that "
            "is meant: magick in -background black -flatten out.png"
        )
