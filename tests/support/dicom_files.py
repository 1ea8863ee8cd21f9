"""DICOM files as tests need them, written by pydicom."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from mple.data.dicom_files.reader import DicomFiles


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags: Any) -> Path:
    """A file with these pixels (H, W) or (H, W, C); `tags` are attributes, `syntax` and `sop_class` UIDs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(tags.pop("syntax", ExplicitVRLittleEndian))
    meta.MediaStorageSOPClassUID = tags.pop("sop_class", "1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    syntax = meta.TransferSyntaxUID
    encoding = {"is_implicit_VR": syntax == ImplicitVRLittleEndian, "is_little_endian": syntax != ExplicitVRBigEndian}
    made = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128), **encoding)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    made.PhotometricInterpretation = photometric
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.dtype.kind == "f":
        name = "FloatPixelData" if pixels.itemsize == 4 else "DoubleFloatPixelData"
        setattr(made, name, pixels.tobytes())
        made[name].VR = "OF" if pixels.itemsize == 4 else "OD"
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        made.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        made["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    for name, value in tags.items():
        made.add(value) if isinstance(value, DataElement) else setattr(made, name, value)
    forced = {} if syntax.is_transfer_syntax else {"implicit_vr": False, "little_endian": True, "force_encoding": True}
    if forced:  # pydicom knows no JPEG XL, and asks nothing where it is told
        made["PixelData"].is_undefined_length = True
    made.save_as(path, enforce_file_format=not forced, **forced)
    return path


def write_compressed(path: Path, like: np.ndarray, frame: bytes, syntax: str, **tags: Any) -> Path:
    """A file whose only frame is this codestream, and whose attributes are those of the pixels `like`."""
    photometric = tags.pop("photometric", "MONOCHROME2" if like.ndim == 2 else "RGB")
    return write_dicom(path, like, photometric, syntax=syntax, PixelData=encapsulate([frame]), **tags)


def item(**tags: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, Sequence(value) if isinstance(value, list) and name.endswith("Sequence") else value)
    return made


def read_dicom(path: Path, window: tuple[float, ...] = ()) -> np.ndarray:
    """The picture that mple makes of a file."""
    return np.asarray(DicomFiles(window, 10**9).picture(path))


def by_window(values: Any, centre: float, width: float) -> np.ndarray:
    """8-bit levels by DICOM's window function LINEAR (PS3.3 C.11.2.1.2.1), or LINEAR_EXACT below a width of 1."""
    if width >= 1:
        centre, width = centre - 0.5, width - 1
    return np.rint(np.clip((np.asarray(values, float) - centre) / width + 0.5, 0, 1) * 255).astype(np.uint8)
