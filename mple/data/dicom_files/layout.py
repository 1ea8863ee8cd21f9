"""How a DICOM file says that its pixels are stored: checked before any of them is read."""

from dataclasses import dataclass

from mple.data.dicom_files.numbers import whole
from mple.data.dicom_files.objects import DicomObject
from mple.data.images import DataError

GREY = ("MONOCHROME1", "MONOCHROME2")
_SAMPLES = {**dict.fromkeys(GREY, 1), "PALETTE COLOR": 1} | dict.fromkeys(
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "XYB"), 3
)
"""Values of a pixel, by photometric interpretation; those retired from DICOM are not read."""
_MOST_PIXELS = 89_478_485
"""Of one picture; what Pillow holds for a decompression bomb in ordinary ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the pixels of one picture are stored."""

    rows: int
    columns: int
    samples: int
    """Values of a pixel: 1 or 3."""
    photometric: str
    element: str
    """Keyword of the element that holds them."""
    allocated: int
    """Bits of a value's cell."""
    stored: int
    """Bits of the value."""
    high: int
    """The value's highest bit in its cell, counted from 0."""
    is_signed: bool

    @property
    def is_grey(self) -> bool:
        """Whether a value is a brightness."""
        return self.photometric in GREY

    @property
    def frame_bytes(self) -> int:
        """Of the picture without compression."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return -(-self.rows * self.columns * samples * self.allocated // 8)


def picture_layout(file: DicomObject) -> Layout:
    """The layout of a file's only picture.

    Raises DataError: it holds no picture, or one whose attributes are missing, contradict each other, are of a kind
    that is not read, or tell of more than `_MOST_PIXELS`.
    """
    about = file.about
    if file.pixels is None or whole(about, "Rows", 0) * whole(about, "Columns", 0) == 0:
        missing = "pixels" if file.pixels is None else "Rows and Columns"
        raise DataError(f"it is no picture but a {file.kind}, without {missing}; take it out of the table")
    rows, columns = whole(about, "Rows"), whole(about, "Columns")
    if rows * columns > _MOST_PIXELS:
        raise DataError(f"it says it is {columns}x{rows}; a picture has at most {_MOST_PIXELS} pixels")
    photometric = str(about.get("PhotometricInterpretation") or "").strip().upper()
    samples = whole(about, "SamplesPerPixel", 1)
    if photometric not in _SAMPLES:
        raise DataError(f"its PhotometricInterpretation {photometric!r} is not read; save it as {', '.join(_SAMPLES)}")
    if samples != _SAMPLES[photometric]:
        raise DataError(f"it has {samples} values a pixel, but is {photometric}, which has {_SAMPLES[photometric]}")
    allocated = whole(about, "BitsAllocated")
    is_float = file.pixels != "PixelData"
    stored = allocated if is_float else whole(about, "BitsStored", allocated)
    layout = Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        element=file.pixels,
        allocated=allocated,
        stored=stored,
        high=stored - 1 if is_float else whole(about, "HighBit", stored - 1),
        is_signed=not is_float and whole(about, "PixelRepresentation", 0) == 1,
    )
    _check_bits(layout)
    return layout


def _check_bits(layout: Layout) -> None:
    wanted = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}[layout.element]
    if layout.allocated not in wanted:
        raise DataError(f"BitsAllocated is {layout.allocated}; {layout.element} is read with {wanted}")
    if not 1 <= layout.stored <= layout.high + 1 <= layout.allocated:
        raise DataError(
            f"BitsStored {layout.stored} with HighBit {layout.high} does not fit BitsAllocated {layout.allocated}"
        )
    if layout.element != "PixelData" and not layout.is_grey:
        raise DataError(f"{layout.element} is {layout.photometric}; needs grey")
    if layout.is_signed and not layout.is_grey and layout.samples == 3:
        raise DataError("its colours are signed numbers (PixelRepresentation 1); save them unsigned")
