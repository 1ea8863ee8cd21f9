"""Colours of DICOM files as red, green and blue. Legend: H W size."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.data.dicom_files.layout import Layout
from mple.data.dicom_files.lookup import palette
from mple.data.dicom_files.numbers import has_value
from mple.data.dicom_files.objects import DicomObject
from mple.data.images import DataError


def colour_levels(
    values: NDArray[np.generic], photometric: str, layout: Layout, file: DicomObject
) -> NDArray[np.float64]:
    """Levels (H, W, 3) of red, green and blue from 0 to 1, before a colour profile is applied.

    Args:
        values: Stored values (H, W) of a palette, else (H, W, 3).
        photometric: What they are.
        layout: Of the pixels.
        file: That has the palette.

    Raises DataError: a palette is missing or damaged.
    """
    if photometric == "PALETTE COLOR":
        tables = palette(file.about, signed_inputs=layout.is_signed, little_endian=file.is_little_endian)
        return np.stack([table.of(values) / table.top for table in tables], axis=-1)
    top = float(2**layout.stored - 1)
    if photometric == "RGB":
        return np.asarray(values, np.float64) / top
    if photometric not in ("YBR_FULL", "YBR_FULL_422"):
        raise DataError(f"its colours are {photometric} without the compression that this belongs to")
    if layout.stored == 8:
        pixels = importlib.import_module("pydicom.pixels")
        return np.asarray(pixels.convert_color_space(values.astype(np.uint8), "YBR_FULL", "RGB"), np.float64) / 255
    luma, blue, red = np.moveaxis(np.asarray(values, np.float64), -1, 0)
    blue, red = blue - 2.0 ** (layout.stored - 1), red - 2.0 ** (layout.stored - 1)
    return np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1) / top


def colour_profile(about: Any) -> bytes:
    """The ICC profile of a file or of its only optical path; nothing where there is none.

    Raises DataError: it is of several optical paths.
    """
    if has_value(about, "ICCProfile"):
        return bytes(about.get("ICCProfile"))
    paths = about.get("OpticalPathSequence") or []
    profiles = {bytes(one.get("ICCProfile") or b"") for one in paths} or {b""}
    if len(profiles) > 1:
        raise DataError(f"its {len(paths)} optical paths have different colour profiles; save each as a file")
    return profiles.pop()
