"""The studies of docs/guide/pacs.md: eight CTs of three slices, sent to a PACS that is there to be tried.

    python -m examples.pacs URL PASSWORD_FILE TABLE

They are cut from the slice that pydicom brings along. The table names the studies by their accession numbers.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from examples.own_pictures import pieces

_LABELS = {"left": (1, 2, 5, 6), "right": (3, 4, 7, 8)}
_SPLITS = {"val": (3, 6), "test": (2, 8)}


def studies() -> Iterator[pydicom.Dataset]:
    """One instance after the other; equal UIDs whenever it is called."""
    for piece in pieces():
        if piece.kind == "ct":
            made = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
            made.Rows, made.Columns = piece.values.shape
            made.PixelData, made.PatientID = piece.values.tobytes(), piece.patient
            made.AccessionNumber, made.InstanceNumber = f"A{piece.patient[1:]}", piece.number + 1
            made.StudyDescription = "HEAD"
            made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = (
                generate_uid(entropy_srcs=[piece.patient, level])
                for level in ("study", "series", f"instance {piece.number}")
            )
            made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
            yield made


def write_table(path: Path) -> None:
    """A row for each study."""
    rows = ["AccessionNumber,label,split"]
    for patient in range(1, 9):
        label = next(name for name, those in _LABELS.items() if patient in those)
        split = next((name for name, those in _SPLITS.items() if patient in those), "train")
        rows.append(f"A{patient:02},{label},{split}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Send all, and write the table."""
    url, password_file, table = arguments
    session = requests.Session()
    user, _, password = Path(password_file).read_bytes().splitlines()[0].partition(b":")
    session.auth = (user, password)  # as bytes: texts would be sent in Latin-1
    client = DICOMwebClient(url, session=session)
    client.store_instances(list(studies()))
    write_table(Path(table))


if __name__ == "__main__":
    main(sys.argv[1:])
