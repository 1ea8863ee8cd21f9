"""How pictures that are no part of a set are read: as the set's own are. A record, so that a delivered network keeps it
and reads new pictures as those that it was trained on."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from mple.data.dicom_files.reader import DicomFiles
from mple.data.levels import White
from mple.data.picture_files import PictureFiles, PictureFormat
from mple.ranges import Between, check_ranges


class FileKind(StrEnum):
    """What files are."""

    PICTURES = "pictures"
    """PNG, JPEG, TIFF and their like."""
    DICOM = "dicom"


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureReading:
    """How files are read; each field has the meaning of the `[data]` setting of its name."""

    files: FileKind = FileKind.PICTURES
    window: tuple[float, ...] = ()
    """Of DICOM."""
    white: White | None = None
    """Of other files."""
    resized: bool = False
    """Whatever their size, they are resized to what is needed."""
    greyed: bool = False
    """Where grey is needed, colour is dropped."""
    most_bytes: Annotated[int, Between(1)] = 16 * 1024**3
    """Largest decoded picture."""

    def __post_init__(self) -> None:
        check_ranges(self)
        finite = all(map(math.isfinite, self.window))
        if self.window and (len(self.window) != 2 or not finite or not self.window[1] > 0):
            raise ValueError(f"window = {list(self.window)}; needs centre and width, the width above 0")

    def format(self) -> PictureFormat:
        """The reader. Raises DataError: a library is missing."""
        if self.files is FileKind.DICOM:
            return DicomFiles(self.window, self.most_bytes)
        return PictureFiles(self.white)
