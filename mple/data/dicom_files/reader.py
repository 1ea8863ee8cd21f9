"""The reader of DICOM files: one way for training, for headers and for predictions."""

import importlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data.dicom_files.colours import colour_levels, colour_profile
from mple.data.dicom_files.display import Display, display_of, eight_bits, grey_pixels, grey_values, padding, row_bands
from mple.data.dicom_files.layout import Layout, picture_layout
from mple.data.dicom_files.lookup import palette
from mple.data.dicom_files.objects import DicomObject, opened
from mple.data.dicom_files.pixels import check_encoding, stored_values
from mple.data.images import DataError
from mple.data.picture_display import in_srgb
from mple.data.picture_files import PictureHeader
from mple.extras import missing_extra
from mple.printable import printable

_MOST_SAID = 500
"""Characters of what is said of a file, which may quote it."""


class DicomFiles:
    """DICOM files, read by pydicom and, where compressed, by imagecodecs."""

    def __init__(self, window: Sequence[float], most_bytes: int) -> None:
        """Load pydicom. The window is centre and width for all files, or nothing.

        Raises DataError: pydicom is not installed.
        """
        try:
            self._pydicom = importlib.import_module("pydicom")
        except ImportError:
            raise DataError(missing_extra("reading DICOM files", "pydicom", "dicom")) from None
        self._window, self._most_bytes = tuple(window), most_bytes

    def header(self, path: Path) -> PictureHeader:
        """Size and colours of the picture in a file, without its pixels; what it says of them is checked."""
        with self._faults_named(path), self._opened(path) as file:
            layout, display = self._checked(file)
            patient = str(file.about.get("PatientID") or "").strip()
            is_stretched = display is not None and display.is_stretched and layout.allocated > 1
            return PictureHeader(layout.columns, layout.rows, layout.is_grey, patient, is_stretched)

    def uids(self, path: Path) -> tuple[str, str, str]:
        """Of study, series and instance, as the file says; what it says of its picture is checked as for `header`."""
        with self._faults_named(path), self._opened(path) as file:
            self._checked(file)
            names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            study, series, instance = (str(file.about.get(name) or "") for name in names)
            return study, series, instance

    def picture(self, path: Path) -> Image.Image:
        """The picture in a file, grey or RGB, 8 bits a value."""
        with self._faults_named(path), self._opened(path) as file:
            layout, display = self._checked(file)
            stored = stored_values(file, layout)
            if display is not None:
                background = padding(stored.values, stored.cells, layout, file.about)
                return Image.fromarray(grey_pixels(stored.values, background, layout, display))
            pixels = np.concatenate(
                [
                    eight_bits(colour_levels(stored.values[band], stored.photometric, layout, file))
                    for band in row_bands(stored.values.shape)
                ]
            )
            profile = colour_profile(file.about)
            return Image.fromarray(in_srgb(pixels, profile, path) if profile else pixels)

    has_values = True

    def values(self, path: Path) -> NDArray[np.float64] | None:
        """Grey values after the rescale, before any window, in no order, without padding; None of a file in colour."""
        with self._faults_named(path), self._opened(path) as file:
            layout, display = self._checked(file)
            if display is None:
                return None
            stored = stored_values(file, layout)
            return grey_values(stored.values, padding(stored.values, stored.cells, layout, file.about), display)

    def _checked(self, file: DicomObject) -> tuple[Layout, Display | None]:
        """Layout and, for grey values, display of a file whose pixels can be decoded."""
        layout = picture_layout(file)
        check_encoding(file, layout)
        if layout.photometric == "PALETTE COLOR":
            palette(file.about, signed_inputs=layout.is_signed, little_endian=file.is_little_endian)
        if not layout.is_grey:
            return layout, None
        return layout, display_of(file.about, layout, self._window, little_endian=file.is_little_endian)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[DicomObject]:
        if not path.is_file():
            raise DataError(f"no DICOM file at {path}")
        if path.stat().st_size > self._most_bytes:
            raise DataError(f"DICOM file {path} has {path.stat().st_size} bytes, above most_bytes = {self._most_bytes}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of much that is checked here
            with opened(path) as file:
                yield file

    @contextmanager
    def _faults_named(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (
            OSError, EOFError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, NotImplementedError,
            ArithmeticError, MemoryError, AssertionError, struct.error, zlib.error,
            self._pydicom.errors.InvalidDicomError, self._pydicom.errors.BytesLengthException,
        ) as fault:  # fmt: skip
            if isinstance(fault, DataError) and str(path) in str(fault):
                raise
            raise DataError(f"DICOM file {path} can't be read: {_sentence(fault)}") from None


def _sentence(fault: BaseException) -> str:
    if isinstance(fault, OSError) and isinstance(fault.__context__, DataError):  # of a bound, taken for an end
        fault = fault.__context__
    if isinstance(fault, RecursionError):
        return "its sequences are nested too deep; is it damaged?"
    if isinstance(fault, MemoryError):
        return "it takes more memory than there is"
    return printable(" ".join(str(fault).split()) or type(fault).__name__, _MOST_SAID)
