"""PBM, PGM and PPM files as they store their values, up to the maximum that each of them states.

Pillow reads their headers. Their values it would stretch to 8 or 16 bits, one after the other in Python; it would clip
those above the maximum, and pass over what follows.

Legend: H W size.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from mple.data.images import DataError

Numbers = NDArray[np.integer[Any] | np.floating[Any]]
_COMMENT = re.compile(rb"#[^\r\n]*")
_SPARE_BYTES = 64 * 1024
"""Of comments and blanks."""


def is_pnm(picture: ImageFile.ImageFile) -> bool:
    """Whether an open picture is one of these, and not one of the relatives that Pillow takes for them."""
    return picture.format == "PPM" and picture.mode in ("1", "L", "I", "RGB")


def pnm_maximum(picture: ImageFile.ImageFile) -> int:
    """The value that is white; of a PBM, which has ones for black, 255."""
    _, _, _, args = picture.tile[0]
    if not isinstance(args, tuple):
        return 65535 if args == "I;16B" else 255
    return int(args[-1]) if isinstance(args[-1], int) else 255


def pnm_values(picture: ImageFile.ImageFile, path: Path) -> Numbers:
    """Values (H, W) or (H, W, 3) of a picture that is not yet decoded.

    Raises DataError: the file ends before its picture, or goes on after it.
    """
    width, height = picture.size
    shape = (height, width, 3) if picture.mode == "RGB" else (height, width)
    codec, _, offset, _ = picture.tile[0]
    count = int(np.prod(shape))
    if path.stat().st_size > offset + 12 * count + _SPARE_BYTES:
        raise _goes_on(path)
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    values: Numbers
    if codec == "ppm_plain":
        text = _COMMENT.sub(b" ", content)
        digits = [bytes([digit]) for digit in b"".join(text.split())] if picture.mode == "1" else text.split()
        values, rest = np.array(digits[:count], np.int64), b"".join(digits[count:])
        if picture.mode == "1" and values.max(initial=0) > 1:
            raise DataError(f"picture {path} can't be read: it holds the digit {values.max()}, where bits are 0 and 1")
    elif picture.mode == "1":
        row_bytes = (width + 7) // 8
        rows = np.frombuffer(content, np.uint8, min(height, len(content) // row_bytes) * row_bytes)
        values = np.unpackbits(rows.reshape(-1, row_bytes), axis=1)[:, :width].ravel()
        rest = content[height * row_bytes :].strip()
    else:
        dtype = np.dtype(np.uint8 if pnm_maximum(picture) < 256 else ">u2")
        values = np.frombuffer(content, dtype, min(count, len(content) // dtype.itemsize))
        rest = content[count * dtype.itemsize :].strip()
    if len(values) < count:
        raise DataError(f"picture {path} can't be read: it ends after {len(values)} of {count} values")
    if rest:
        raise _goes_on(path)
    if picture.mode == "1":
        values = np.where(values == 0, 255, 0)
    return values.reshape(shape)


def _goes_on(path: Path) -> DataError:
    return DataError(f"picture {path} goes on after its picture; save each as a file")
