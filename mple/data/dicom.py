"""DICOM folders with a CSV table of labels, see `mple.data.label_table`.

Grey values go through the file's modality transform, then through the configured window, else the file's own lookup
table or window, else their own range; 8 bits result and MONOCHROME1 is inverted. Colour files are taken as RGB. One
frame for each file. Needs the extra `dicom`.
"""

import importlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data.images import Catalogue, DataError
from mple.data.label_table import read_label_table
from mple.data.picture_files import PictureFormat, PictureHeader
from mple.data.picture_sets import PictureSource, table_catalogue
from mple.extras import missing_extra

_DEFLATED = "1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomSource(PictureSource):
    """DICOM files with a CSV table of labels."""

    kind: Literal["dicom"] = "dicom"
    label_file: Path | None = None
    """CSV table with the columns file, label and, if wanted, split and patient; by default `labels.csv` in the
    folder."""
    window: tuple[float, ...] = ()
    """Centre and width of grey values after the modality transform, for all files alike, the width 1 or more; by
    default each file's own."""

    def __post_init__(self) -> None:
        PictureSource.__post_init__(self)
        if self.window and (len(self.window) != 2 or not self.window[1] >= 1):
            raise ValueError(f"window = {list(self.window)}; needs centre and width, the width 1 or more")

    def catalogue(self) -> Catalogue:
        """Read the label table and the headers of the files that it names.

        Raises DataError: pydicom is not installed; the table, a label or a file can't be used.
        """
        self.picture_format()  # a missing library is named before a missing table
        return table_catalogue(self, read_label_table(self.label_file or self.path / "labels.csv"))

    def picture_format(self) -> PictureFormat:
        """As pydicom reads them, under the window."""
        return DicomFiles(self.window, self.most_bytes)


class DicomFiles:
    """DICOM files, read by pydicom."""

    def __init__(self, window: tuple[float, ...], most_bytes: int) -> None:
        """Load pydicom. The window is centre and width for all files, or nothing.

        Raises DataError: pydicom is not installed.
        """
        try:
            self._pydicom = importlib.import_module("pydicom")
            self._pixels = importlib.import_module("pydicom.pixels")
        except ImportError:
            raise DataError(missing_extra("reading DICOM files", "pydicom", "dicom")) from None
        self._window, self._most_bytes = window, most_bytes

    def header(self, path: Path) -> PictureHeader:
        """Size and colours of the picture in a file, without its pixels."""
        with self._faults_named(path):
            about = self._read(path, stop_before_pixels=True)
            frames = int(about.get("NumberOfFrames") or 1)
            if frames != 1:
                raise DataError(f"DICOM file {path} holds {frames} frames; save each as a file")
            is_grey, patient = about.PhotometricInterpretation in _GREY, str(about.get("PatientID") or "").strip()
            return PictureHeader(int(about.Columns), int(about.Rows), is_grey, patient)

    def picture(self, path: Path) -> Image.Image:
        """The picture in a file, grey or RGB, 8 bits a value."""
        with self._faults_named(path):
            about = self._read(path)
            stored = self._pixels.pixel_array(about)
            if about.PhotometricInterpretation in _GREY:
                levels = self._grey_levels(stored, about)
            else:
                levels = self._colour_levels(stored, about)
            return Image.fromarray(np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8))

    def _read(self, path: Path, *, stop_before_pixels: bool = False) -> Any:
        if not path.is_file():
            raise DataError(f"no DICOM file at {path}")
        if path.stat().st_size > self._most_bytes:
            raise DataError(f"DICOM file {path} has {path.stat().st_size} bytes, above most_bytes = {self._most_bytes}")
        # A deflated file is inflated whole as soon as it is opened, whatever its size turns out to be.
        if self._pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            raise DataError(f"DICOM file {path} is deflated as a whole; save it uncompressed")
        return self._pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)

    def _grey_levels(self, stored: NDArray[np.generic], about: Any) -> NDArray[np.float64]:
        """Levels (H, W) from 0, black, to 1."""
        values = np.asarray(self._pixels.apply_modality_lut(stored, about), np.float64)
        if self._window:
            levels = windowed(values, self._window[0], self._window[1], "LINEAR")
        elif about.get("VOILUTSequence"):
            bits = int(about.VOILUTSequence[0].LUTDescriptor[2])
            levels = np.asarray(self._pixels.apply_voi(values.astype(np.int64), about), np.float64) / (2**bits - 1)
        elif about.get("WindowCenter") is not None and about.get("WindowWidth") is not None:
            centre, width = _first(about.WindowCenter), _first(about.WindowWidth)
            levels = windowed(values, centre, width, str(about.get("VOILUTFunction") or "LINEAR"))
        else:
            low, high = float(values.min()), float(values.max())
            levels = (values - low) / max(high - low, 1e-9)
        if about.PhotometricInterpretation == "MONOCHROME1":
            levels = 1.0 - levels
        return levels

    def _colour_levels(self, stored: NDArray[np.generic], about: Any) -> NDArray[np.float64]:
        """Levels (H, W, 3) of red, green and blue from 0 to 1; pydicom has turned YBR into RGB already."""
        if about.PhotometricInterpretation == "PALETTE COLOR":
            stored = self._pixels.apply_color_lut(stored, about)
            bits = 8 * int(stored.dtype.itemsize)
        else:
            bits = int(about.BitsStored)
        if stored.ndim != 3 or stored.shape[2] != 3:
            raise DataError(f"its pixels have the shape {stored.shape}; needs red, green and blue")
        return np.asarray(stored, np.float64) / float(2**bits - 1)

    @contextmanager
    def _faults_named(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (
            OSError, EOFError, AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError,
            NotImplementedError, OverflowError, struct.error, zlib.error, self._pydicom.errors.InvalidDicomError,
            self._pydicom.errors.BytesLengthException,
        ) as fault:  # fmt: skip
            if isinstance(fault, DataError) and str(path) in str(fault):
                raise
            raise DataError(f"DICOM file {path} can't be read: {fault}") from None


def windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Levels from 0 to 1 by a window, as DICOM PS3.3 C.11.2.1.2 defines `LINEAR`, `LINEAR_EXACT` and `SIGMOID`.

    Raises DataError: the function has another name, or the width is out of its range.
    """
    function = function.upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not width >= (1 if function == "LINEAR" else 1e-9):
        raise DataError(f"window of width {width} with the function {function!r} is not allowed")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if not width:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _first(value: Any) -> float:
    """A file may offer several windows; the first is its default."""
    return float(value if isinstance(value, int | float) else value[0])
