"""A DICOM file opened within bounds: its attributes, and where its pixels begin.

Only the attributes that a picture needs are read; all else is skipped where the file says how long it is. So neither
an absurd length nor a header that never ends takes memory.
"""

import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mple.data.images import DataError

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_MOST_HEADER = 4 * 1024**2
"""Bytes of attributes that are read, whatever the file holds beside them."""
_MOST_READS = 100_000
"""Attributes and items of sequences that are looked at: each takes far more memory than it has bytes."""
_MOST_SEQUENCE = 1024**2
"""Bytes of a sequence that is wanted; its items are found when it is asked for."""
_MOST_INFLATED = 16 * 1024**2
"""Bytes of a deflated file within which its pixels must begin."""
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_LONG = ("OB", "OW", "OF", "OD", "UN")
"""Value representations whose length takes four bytes more."""
_GROUPS_OF_FRAMES = 0x52000000
"""From here on, sequences describe frames; they can be large where frames are many."""
_PALETTES = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
_WANTED = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *(
        "FloatPixelPaddingValue",
        "FloatPixelPaddingRangeLimit",
        "DoubleFloatPixelPaddingValue",
        "DoubleFloatPixelPaddingRangeLimit",
    ),
    *("RescaleSlope", "RescaleIntercept", "DoseGridScaling", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("ICCProfile", "OpticalPathSequence"),
    *("VOILUTSequence", "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{name}Descriptor" for name in _PALETTES),
    *(f"{name}Data" for name in _PALETTES),
    *(f"Segmented{name}Data" for name in _PALETTES),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomObject:
    """A file's attributes and the place of its pixels."""

    about: Any
    """pydicom's data set of the attributes that a picture needs."""
    syntax: str
    """UID of the transfer syntax."""
    kind: str
    """What the file is, in DICOM's words."""
    pixels: str | None
    """Keyword of the element that holds the pixels, where there is one."""
    pixels_vr: str
    length: int | None
    """Of the pixels in bytes; nothing where the file leaves it open, as encapsulated pixels do."""
    _file: BinaryIO
    _start: int
    _zipped_at: int | None

    @property
    def is_little_endian(self) -> bool:
        """Of the numbers that come as plain bytes."""
        return self.syntax != BIG_ENDIAN

    def read_pixels(self, most: int) -> bytes:
        """The pixels as they are stored, at most this many bytes of them, to the end of the file where their length is
        open."""
        wanted = most if self.length is None else min(self.length, most)
        if self._zipped_at is not None:
            self._file.seek(self._zipped_at)
            inflated = _inflated(self._file, self._start + wanted)
            return inflated[self._start : self._start + wanted]
        self._file.seek(self._start)
        return self._file.read(wanted)


@contextmanager
def opened(path: Path) -> Iterator[DicomObject]:
    """Open a DICOM file, with or without its preamble.

    Raises DataError: it is no DICOM file, holds several frames, or its attributes take more than `_MOST_HEADER`.
    """
    with path.open("rb") as file:
        yield _object(file)


def _object(file: BinaryIO) -> DicomObject:
    read = importlib.import_module("pydicom.filereader").read_dataset
    _skip_preamble(file)
    meta = read(_Bounded(file), False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    start = file.tell()
    syntax = str(meta.get("TransferSyntaxUID") or _guessed_syntax(file))
    content, zipped_at = file, None
    if syntax == DEFLATED:
        content, zipped_at = io.BytesIO(_inflated(file, _MOST_INFLATED)), start
    bounded, encoding = _Bounded(content), (syntax == IMPLICIT, syntax != BIG_ENDIAN)
    tags = list(map(importlib.import_module("pydicom.datadict").tag_for_keyword, _WANTED))
    about = read(bounded, *encoding, stop_when=lambda tag, *_: tag >= _GROUPS_OF_FRAMES, specific_tags=tags)
    _refuse_frames(about)
    found: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            found.append((int(tag), vr, length))
        return tag in _PIXELS

    about.update(read(bounded, *encoding, stop_when=at_pixels, specific_tags=tags))
    for one in about.elements():
        if one.VR in (None, "SQ") and isinstance(one.value, bytes) and len(one.value) > _MOST_SEQUENCE:
            raise DataError(f"a sequence of it takes {len(one.value)} bytes; needs at most {_MOST_SEQUENCE}")
    tag, vr, length = found[-1] if found else (0, None, 0)
    return DicomObject(
        about=about,
        syntax=syntax,
        kind=_kind(meta, about),
        pixels=_PIXELS.get(tag),
        pixels_vr=vr or "OW",
        length=None if length == 0xFFFFFFFF else length,
        _file=file,
        _start=content.tell() + (12 if vr in _LONG else 8),
        _zipped_at=zipped_at,
    )


class _Bounded:
    """A file of which only so many bytes are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left, self._reads = file, _MOST_HEADER, _MOST_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        self._reads -= 1
        if self._left < 0:
            raise DataError(f"its attributes take more than {_MOST_HEADER} bytes without the pixels; is it damaged?")
        if self._reads < 0:
            raise DataError(f"it has more than {_MOST_READS} attributes and items of sequences; is it damaged?")
        return self._file.read(size)


def _skip_preamble(file: BinaryIO) -> None:
    """Leave the file at its first element; without a preamble that must be one of group 2 or 8, as DICOM's are."""
    if file.read(132)[128:] == b"DICM":
        return
    file.seek(0)
    first = file.read(4)
    file.seek(0)
    if first[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08") or len(first) < 4:
        raise DataError('it is no DICOM file; ordinary pictures are read with kind = "folder"')


def _guessed_syntax(file: BinaryIO) -> str:
    """Of a file that does not say it, by its first element: explicit ones carry two capital letters."""
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    if len(first) < 6:
        raise DataError("it ends before its first attribute")
    if not first[4:].isalpha() or not first[4:].isupper():
        return IMPLICIT
    return BIG_ENDIAN if struct.unpack("<H", first[:2])[0] >= 0x0400 else EXPLICIT


def _inflated(file: BinaryIO, most: int) -> bytes:
    """What lies deflated from here on, at most so many bytes of it."""
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces, size = [], 0
    while size < most and not inflating.eof:
        taken = inflating.unconsumed_tail or file.read(1 << 16)
        if not taken:
            break
        pieces.append(inflating.decompress(taken, most - size))
        size += len(pieces[-1])
    return b"".join(pieces)


def _refuse_frames(about: Any) -> None:
    frames = about.get("NumberOfFrames")
    if frames not in (None, "", 1):
        raise DataError(f"it holds {frames} frames; save each as a file")


def _kind(meta: Any, about: Any) -> str:
    uid = about.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    name = str(importlib.import_module("pydicom.uid").UID(uid).name) if uid else "DICOM object of no stated class"
    return "DICOMDIR" if name == "Media Storage Directory Storage" else name.removesuffix(" Storage")
