"""DICOM folders with a CSV table of labels, see `mple.data.label_table`; `mple.data.dicom_files` reads a file. Needs
the extra `dicom`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from mple.data.images import Catalogue
from mple.data.picture_reading import FileKind, PictureReading
from mple.data.picture_sets import PictureSource, table_catalogue


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomPictures(PictureSource):
    """What sources of DICOM files have in common."""

    levels_advice: ClassVar[str] = "if there is more to see outside the files' windows, set window in [data]"

    window: tuple[float, ...] = ()
    """Centre and width of grey values after the modality transform, for all files alike, the width above 0 (below 1
    for values in small units); by default each file's own, or its own range."""

    def __post_init__(self) -> None:
        PictureSource.__post_init__(self)
        self.reading()  # judges the window

    def reading(self) -> PictureReading:
        """As pydicom reads them, under the window."""
        return replace(PictureSource.reading(self), files=FileKind.DICOM, window=self.window)


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomSource(DicomPictures):
    """DICOM files with a CSV table of labels."""

    kind: Literal["dicom"] = "dicom"
    label_file: Path | None = None
    """CSV table with the columns file, label and, if wanted, split and patient; by default `labels.csv` in the
    folder. For a task of labels it has a column for each label instead."""

    def catalogue(self) -> Catalogue:
        """Read the label table and the headers of the files that it names.

        Raises DataError: pydicom is not installed; the table, a label or a file can't be used.
        """
        self.reading().format()  # a missing library is named before a missing table
        return table_catalogue(self, self.label_file or self.path / "labels.csv")
