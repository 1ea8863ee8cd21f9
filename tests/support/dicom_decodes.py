"""Pixels of DICOM files without the reader under test: by hand where they are not compressed, else by GDCM."""

import struct
import zlib
from pathlib import Path

import gdcm
import numpy as np

_TYPES = {
    gdcm.PixelFormat.UINT8: np.uint8,
    gdcm.PixelFormat.UINT12: np.uint16,
    gdcm.PixelFormat.UINT16: np.uint16,
    gdcm.PixelFormat.INT16: np.int16,
}


def element(content: bytes, tag: tuple[int, int], order: str = "<") -> bytes:
    """The value of the last element with this tag that is found; explicit ones have a VR of two capitals."""
    head = struct.pack(f"{order}HH", *tag)
    start = content.rindex(head) + 4
    if content[start : start + 2].isupper():
        start += 4
    (length,) = struct.unpack(f"{order}I", content[start : start + 4])
    return content[start + 4 : start + 4 + length]


def pixel_data(path: Path, dtype: str) -> np.ndarray:
    """Values of pixels that are not compressed, in the order of bytes that the type tells."""
    data = element(path.read_bytes(), (0x7FE0, 0x0010), ">" if dtype[0] == ">" else "<")
    return np.frombuffer(data, dtype)


def inflated(path: Path) -> bytes:
    """What follows the file's meta information, which begins with its own length."""
    content = path.read_bytes()
    (length,) = struct.unpack("<I", content[140:144])
    return zlib.decompress(content[144 + length :], -zlib.MAX_WBITS)


def by_gdcm(path: Path) -> np.ndarray:
    """Stored values (H, W) or (H, W, C) of a picture, as GDCM decodes it."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    form = image.GetPixelFormat()
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), _TYPES[form.GetScalarType()])
    columns, rows = image.GetDimensions()[:2]
    samples = form.GetSamplesPerPixel()
    if samples == 1:
        return values.reshape(rows, columns)
    if image.GetPlanarConfiguration():
        return values.reshape(samples, rows, columns).transpose(1, 2, 0)
    return values.reshape(rows, columns, samples)


def encode_by_gdcm(plain: Path, encoded: Path, syntax: str) -> None:
    """Write a picture once more, in this transfer syntax, as GDCM encodes it."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(encoded))
    assert writer.Write()
