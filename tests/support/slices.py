"""Slices of patients in every kind of set, and how well a classifier does that can only remember.

What they are is said in `benchmarks/slices.py`.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.slices import Slices
from mple.data import LabelledImages


def save_folder(slices: Slices, root: Path) -> None:
    """class/patient/picture."""
    for number, (pixels, label, patient) in enumerate(
        zip(slices.pixels_NHW, slices.labels, slices.patients, strict=True)
    ):
        folder = root / ("sick", "well")[label] / f"P{patient:02}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def save_dicom(slices: Slices, root: Path, *, column: bool) -> None:
    """Files that name their patient, or, with `column`, a table that does."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    root.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, pixels in enumerate(slices.pixels_NHW):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.{number + 1}"
        made = FileDataset(str(number), {}, file_meta=meta, preamble=bytes(128))
        made.Rows, made.Columns = pixels.shape
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.WindowCenter, made.WindowWidth, made.VOILUTFunction = 127.5, 255, "LINEAR_EXACT"
        made.PixelData = pixels.tobytes()
        if not column:
            made.PatientID = f"P{slices.patients[number]:02}"
        made.save_as(root / f"{number}.dcm", enforce_file_format=True)
        row = {"file": f"{number}.dcm", "label": ("sick", "well")[slices.labels[number]]}
        rows.append(row | ({"patient": f"P{slices.patients[number]:02}"} if column else {}))
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def nearest_neighbour_accuracy(train: LabelledImages, test: LabelledImages) -> float:
    """Part of test images whose nearest training image has their label."""
    known, asked = (one.pixels_NCHW.reshape(len(one), -1).astype(np.float64) for one in (train, test))
    distances = (asked**2).sum(1)[:, None] - 2 * asked @ known.T + (known**2).sum(1)
    return float((train.labels[np.argmin(distances, axis=1)] == test.labels).mean())


def patients_shown(slices: Slices, images: LabelledImages) -> set[int]:
    """Whom images show, by their pixels alone."""
    flat = slices.pixels_NHW.reshape(len(slices.pixels_NHW), -1)
    by_pixels = {row.tobytes(): int(patient) for row, patient in zip(flat, slices.patients, strict=True)}
    return {by_pixels[pixels.tobytes()] for pixels in images.pixels_NCHW}
