"""The three sets of docs/guide/your_own_pictures.md, cut from the CT and the MR slice that pydicom brings along.

    python examples/own_pictures.py FOLDER

They are toys: pieces of two slices in the place of patients, so that every command of the page can be tried.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file

SIDE_PX = 48
PATIENTS, SLICES = 8, 3
"""Of each kind; slices of a patient differ by two pixels."""


@dataclass(frozen=True)
class Piece:
    """A picture that stands for a slice of a patient."""

    kind: str
    patient: str
    number: int
    values: NDArray[np.int16]


def pieces() -> Iterator[Piece]:
    """Of a CT patient c01 to c08, of an MR patient m01 to m08."""
    for kind, name in (("ct", "CT_small.dcm"), ("mr", "MR_small.dcm")):
        values = pydicom.dcmread(str(get_testdata_file(name))).pixel_array.astype(np.int16)
        if len(values) < 2 * SIDE_PX:
            values = values.repeat(2, axis=0).repeat(2, axis=1)
        for patient in range(PATIENTS):
            top, left = 12 * (patient // 4) + 8, 10 * (patient % 4)
            for number in range(SLICES):
                row = top + 2 * number
                yield Piece(kind, f"{kind[0]}{patient + 1:02}", number, values[row : row + SIDE_PX, left:][:, :SIDE_PX])


def grey(values: NDArray[np.int16]) -> NDArray[np.uint8]:
    """From black to white between the values that nearly all pictures lie in."""
    low, high = (200, 2200)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def write_folder(folder: Path) -> None:
    """class/patient/picture.png, each picture of another size."""
    for piece in pieces():
        own = folder / piece.kind / piece.patient
        own.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(grey(piece.values)).resize((SIDE_PX + 8 * piece.number, SIDE_PX))
        picture.save(own / f"slice{piece.number}.png")


def write_archive(path: Path) -> None:
    """MedMNIST's keys, and arrays of patients; the last two patients of a kind are tested."""
    arrays = {}
    for split, wanted in (("train", range(1, 6)), ("val", range(6, 7)), ("test", range(7, 9))):
        chosen = [piece for piece in pieces() if int(piece.patient[1:]) in wanted]
        arrays[f"{split}_images"] = np.stack([grey(piece.values) for piece in chosen])
        arrays[f"{split}_labels"] = np.array([[["ct", "mr"].index(piece.kind)] for piece in chosen])
        arrays[f"{split}_patients"] = np.array([piece.patient for piece in chosen])
    np.savez(path, **arrays)


def write_dicom(folder: Path) -> None:
    """CT files of either half, their table, and one of two labels; the files have a patient's number each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, findings = ["file,label,split"], ["file,split,air,dense"]
    for piece in pieces():
        if piece.kind == "ct":
            file = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
            file.Rows, file.Columns = piece.values.shape
            file.PixelData, file.PatientID = piece.values.tobytes(), piece.patient
            name, patient = f"{piece.patient}_{piece.number}.dcm", int(piece.patient[1:])
            file.save_as(folder / name)
            split = {3: "val", 6: "val", 2: "test", 8: "test"}.get(patient, "train")
            rows.append(f"{name},{'left' if patient % 4 in (1, 2) else 'right'},{split}")
            air, dense = (piece.values < 500).mean() > 0.2, (piece.values > 1300).mean() > 0.12
            findings.append(f"{name},{split},{air:d},{'' if patient == 4 else f'{dense:d}'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "findings.csv").write_text("\n".join(findings) + "\n", encoding="utf-8")


def write_all(folder: Path) -> None:
    """All three, and a configuration for each."""
    write_folder(folder / "slices")
    write_archive(folder / "slices.npz")
    write_dicom(folder / "ct")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
