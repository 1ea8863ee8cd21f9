"""The stored values of a DICOM picture, decoded: native and RLE and 8-bit JPEG by pydicom, the rest by imagecodecs.

Legend: H W size, C three colours or no such axis.
"""

import importlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.data.dicom_files import codestreams
from mple.data.dicom_files.layout import Layout
from mple.data.dicom_files.objects import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, DicomObject
from mple.data.images import DataError

_NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
_RLE, _JPEG_8_BIT, _JPEG_EXTENDED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG_XL_OF_JPEG = "1.2.840.10008.1.2.4.111"
"""Decoded as red, green and blue, whatever the JPEG within it had."""
_SLACK = 16 * 1024**2
"""Bytes that may follow compressed pixels."""
_MAGIC = 4
"""Bytes that all frames of a file begin with, and the later parts of one do not."""
_MORE_FRAMES = "its pixels are more than one frame, which NumberOfFrames does not say; save each as a file"
_RLE_MOST = 64
"""An RLE segment makes at most 128 bytes of 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Values as they are stored."""

    values: NDArray[np.generic]
    """(H, W) or (H, W, 3): whole numbers, or floats."""
    cells: NDArray[np.generic]
    """The same with the bits that a value does not use, where the file keeps such."""
    photometric: str
    """What the values are, once decoded."""


def check_encoding(file: DicomObject, layout: Layout) -> None:
    """Refuse what no decoder reads.

    Raises DataError: the transfer syntax is not read, a package for it is missing, or bits lie where it has none.
    """
    name = str(importlib.import_module("pydicom.uid").UID(file.syntax).name)
    if file.syntax not in (*_NATIVE, _RLE, _JPEG_8_BIT, *codestreams.DECODERS):
        raise DataError(f"its transfer syntax {name} is not read; convert it: gdcmconv --raw IN OUT, or dcmconv IN OUT")
    if (file.length is None) == (file.syntax in _NATIVE):
        raise DataError(f"its pixels are not stored as its transfer syntax {name} says; is it damaged?")
    if file.syntax not in (*_NATIVE, _RLE):
        if layout.high != layout.stored - 1:
            raise DataError(f"HighBit {layout.high} with BitsStored {layout.stored} is not read in {name}")
        if _by_pillow(file, layout):
            return
        codestreams.decoder(file.syntax)
        if file.syntax == _JPEG_EXTENDED and layout.samples > 1:
            raise DataError("it is a 12-bit JPEG in colour, which is not read; convert it: gdcmconv --raw IN OUT")


def stored_values(file: DicomObject, layout: Layout) -> Stored:
    """Decode the pixels.

    Raises DataError: they are cut off, are more than one frame, or contradict the layout. Decoders raise errors of
    their own where a frame is damaged.
    """
    if file.syntax in _NATIVE:
        data = file.read_pixels(2 * layout.frame_bytes)
        if len(data) >= 2 * layout.frame_bytes > 2:
            raise DataError(_MORE_FRAMES)
        if len(data) < layout.frame_bytes:
            raise DataError(f"its pixels are cut off: {len(data)} of {layout.frame_bytes} bytes")
        if layout.allocated == 1 and file.syntax == BIG_ENDIAN and file.pixels_vr == "OW":
            even = data[: len(data) // 2 * 2]
            data = np.frombuffer(even, ">u2").astype("<u2").tobytes()  # pydicom takes bits as they come
        return _by_pydicom(file, layout, data, "")
    most = 2 * layout.frame_bytes + _SLACK
    data = file.read_pixels(most)
    if len(data) == most:
        raise DataError(f"its compressed pixels take {most} bytes and more, which is no picture of its size")
    frame = _only_frame(data)
    if file.syntax == _RLE and len(frame) * _RLE_MOST < layout.frame_bytes:
        raise DataError(f"its compressed pixels of {len(frame)} bytes are cut off")
    if file.syntax == _RLE:
        return _by_pydicom(file, layout, data, "pydicom")
    if _by_pillow(file, layout):
        codestreams.checked_bits(frame, file.syntax, (layout.rows, layout.columns), layout.samples)
        return _by_pydicom(file, layout, data, "pillow")
    return _by_imagecodecs(file, layout, frame)


def _by_pillow(file: DicomObject, layout: Layout) -> bool:
    return file.syntax == _JPEG_8_BIT or (file.syntax == _JPEG_EXTENDED and layout.stored == 8)


def _only_frame(data: bytes) -> bytes:
    """The frame in encapsulated pixels: with one frame, all fragments are its parts."""
    encaps = importlib.import_module("pydicom.encaps")
    content = io.BytesIO(data)
    offsets = encaps.parse_basic_offsets(content)
    fragments = list(encaps.generate_fragments(content))
    if not fragments:
        raise DataError("its compressed pixels are missing")
    if len(offsets) > 1 or any(fragment.startswith(fragments[0][:_MAGIC]) for fragment in fragments[1:]):
        raise DataError(_MORE_FRAMES)
    return b"".join(fragments)


def _by_pydicom(file: DicomObject, layout: Layout, data: bytes, plugin: str) -> Stored:
    decoding: Any = importlib.import_module("pydicom.pixels").get_decoder(file.syntax)
    tag = importlib.import_module("pydicom.datadict").tag_for_keyword(layout.element)
    file.about.add_new(tag, file.pixels_vr, data)
    options = {} if plugin == "pillow" else {"correct_unused_bits": False}
    cells, facts = decoding.as_array(file.about, index=0, raw=True, decoding_plugin=plugin, **options)
    cells = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    values = cells if layout.element != "PixelData" or layout.allocated == 1 else _used_bits(cells, layout)
    return Stored(values=values, cells=cells, photometric=str(facts["photometric_interpretation"]))


def _used_bits(cells: NDArray[np.generic], layout: Layout) -> NDArray[np.generic]:
    """The values within their cells: the bits from `high` down, as many as are stored."""
    if layout.stored == 8 * cells.dtype.itemsize:
        return cells
    numbers = _wide(cells) >> (layout.high + 1 - layout.stored)
    return _as_numbers(numbers, layout.stored, layout.is_signed)


def _wide(values: NDArray[np.generic]) -> NDArray[np.signedinteger]:
    """The values in a type that has room for all their bits and a sign."""
    return values.astype(np.int32 if values.dtype.itemsize <= 2 else np.int64)


def _as_numbers(bits: NDArray[np.signedinteger], count: int, is_signed: bool) -> NDArray[np.signedinteger]:
    """The lowest `count` bits as numbers, with a sign where they have one."""
    numbers = bits & ((1 << count) - 1)
    if is_signed:
        numbers -= (numbers >> (count - 1)) << count
    return numbers


def _by_imagecodecs(file: DicomObject, layout: Layout, frame: bytes) -> Stored:
    decoded, bits = codestreams.decoded(frame, file.syntax, (layout.rows, layout.columns), layout.samples)
    if decoded.dtype.kind not in "ui":
        raise DataError(f"its compressed pixels are {decoded.dtype}; needs whole numbers")
    raw = _as_numbers(_wide(decoded), bits, is_signed=False)
    values = _as_numbers(raw, min(bits, layout.stored), layout.is_signed)
    if (raw >> layout.stored).any() and not np.array_equal(values, _as_numbers(raw, bits, layout.is_signed)):
        raise DataError(f"its compressed pixels have {bits} bits, BitsStored says {layout.stored}")
    is_rgb = layout.photometric in ("YBR_ICT", "YBR_RCT", "XYB") or (
        layout.samples == 3 and file.syntax == _JPEG_XL_OF_JPEG
    )
    return Stored(values=values, cells=values, photometric="RGB" if is_rgb else layout.photometric)
