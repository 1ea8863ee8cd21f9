"""Compressed frames of DICOM files, decoded by imagecodecs; whatever the file says, a frame's own header is looked at
before memory is taken for it."""

import importlib
import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.extras import missing_extra

_JPEG, _JPEG_LS, _JPEG_2000, _JPEG_XL = "jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "jpegxl_decode"
DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.1.2.4.51": _JPEG,
        "1.2.840.10008.1.2.4.57": _JPEG,
        "1.2.840.10008.1.2.4.70": _JPEG,
        "1.2.840.10008.1.2.4.80": _JPEG_LS,
        "1.2.840.10008.1.2.4.81": _JPEG_LS,
        "1.2.840.10008.1.2.4.90": _JPEG_2000,
        "1.2.840.10008.1.2.4.91": _JPEG_2000,
        "1.2.840.10008.1.2.4.110": _JPEG_XL,
        "1.2.840.10008.1.2.4.111": _JPEG_XL,
        "1.2.840.10008.1.2.4.112": _JPEG_XL,
        "1.2.840.10008.1.2.4.201": _JPEG_2000,
        "1.2.840.10008.1.2.4.202": _JPEG_2000,
        "1.2.840.10008.1.2.4.203": _JPEG_2000,
    }
)
"""imagecodecs' function by transfer syntax: JPEG extended and lossless, JPEG-LS, JPEG 2000, JPEG XL, HTJ2K."""

_JXL_BOX = re.compile(rb"^\x00\x00\x00\x0cJXL .*?(?:jxlc|jxlp....)(?=\xff\x0a)", re.DOTALL)
"""All that is before a codestream: it lies in one box or, numbered, in several."""
_EOI = b"\xff\xd9"
"""The end of a JPEG's and a JPEG-LS's pixels, within which it can't occur."""
_SOF = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7]")


def decoder(syntax: str) -> Callable[..., Any]:
    """The function that decodes a frame. Raises DataError: imagecodecs is not installed."""
    try:
        return getattr(importlib.import_module("imagecodecs"), DECODERS[syntax])  # type: ignore[no-any-return]
    except ImportError:
        raise DataError(missing_extra("decoding its compressed pixels", "imagecodecs", "dicom")) from None


def checked_bits(frame: bytes, syntax: str, size: tuple[int, int], samples: int) -> int:
    """How many bits each value has by the frame's own header; 0 where only the decoder tells.

    Raises DataError: the header is not one of this syntax, or tells another size than `size` (H, W) or other samples.
    """
    read = {_JPEG_2000: _jpeg_2000, _JPEG_XL: _jpeg_xl}.get(DECODERS.get(syntax, _JPEG), _jpeg)
    try:
        own_size, own_samples, bits = read(frame)
    except (IndexError, struct.error):
        raise DataError("its compressed pixels do not begin as their transfer syntax says; is it damaged?") from None
    if own_size != size:
        raise DataError(f"its compressed pixels are {own_size[1]}x{own_size[0]}, the file says {size[1]}x{size[0]}")
    if own_samples not in (0, samples):
        raise DataError(f"its compressed pixels have {own_samples} values each, the file says {samples}")
    return bits


def decoded(frame: bytes, syntax: str, size: tuple[int, int], samples: int) -> tuple[NDArray[np.generic], int]:
    """A frame's values (H, W) or (H, W, 3), and how many bits each has.

    Raises DataError: as `checked_bits`, or the values are of another shape.
    """
    bits = checked_bits(frame, syntax, size, samples)
    # What the values of a colour picture are, the file says; a decoder only guesses.
    as_stored = {"colorspace": "RGB", "outcolorspace": "RGB"} if DECODERS[syntax] == _JPEG and samples == 3 else {}
    values = np.asarray(decoder(syntax)(frame, **as_stored))
    if values.shape == (samples, *size):  # colour by colour, as JPEG-LS can have it
        values = np.moveaxis(values, 0, -1)
    wanted = size if samples == 1 else (*size, samples)
    if values.shape != wanted:
        raise DataError(f"its compressed pixels decode to the shape {values.shape}; needs {wanted}")
    return values, bits or 8 * values.dtype.itemsize


def _jpeg(frame: bytes) -> tuple[tuple[int, int], int, int]:
    """Size, samples and bits from a frame header (SOF), which JPEG and JPEG-LS share."""
    place = 2
    while frame[place] == 0xFF:
        if frame[place + 1] == 0xFF:  # a byte that fills
            place += 1
        elif _SOF.match(frame, place):
            if _EOI not in frame[place:]:  # the decoder would fill up what is missing
                raise DataError("its compressed pixels are cut off")
            bits, rows, columns, samples = struct.unpack(">BHHB", frame[place + 4 : place + 10])
            return (rows, columns), samples, bits
        else:
            place += 2 + struct.unpack(">H", frame[place + 2 : place + 4])[0]
    raise IndexError


def _jpeg_2000(frame: bytes) -> tuple[tuple[int, int], int, int]:
    """The same from the SIZ segment, which comes first in a codestream; that may lie within JP2's boxes."""
    place = frame.index(b"\xff\x4f\xff\x51") if b"\xff\x4f\xff\x51" in frame else len(frame)
    right, bottom, left, top = struct.unpack(">4I", frame[place + 8 : place + 24])
    (samples,) = struct.unpack(">H", frame[place + 40 : place + 42])
    return (bottom - top, right - left), samples, (frame[place + 42] & 0x7F) + 1


def _jpeg_xl(frame: bytes) -> tuple[tuple[int, int], int, int]:
    """Size from a codestream's first bits, which may lie within boxes; the rest, the decoder tells."""
    boxed = _JXL_BOX.search(frame)
    place = boxed.end() if boxed else 0
    if frame[place : place + 2] != b"\xff\x0a":
        raise IndexError
    bits = int.from_bytes(frame[place + 2 : place + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    is_small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    width = side() if not ratio else height * (1, 12, 4, 3, 16, 5, 2)[ratio - 1] // (1, 10, 3, 2, 9, 4, 1)[ratio - 1]
    return (height, width), 0, 0
