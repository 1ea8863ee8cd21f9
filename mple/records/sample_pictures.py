"""`pictures-RUN.npz`: a few of a site's training pictures, and a few others as they travel, for a report of the run.

Legend: N pictures, C channels, H W size.
"""

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.data.npz_file import NpzFile
from mple.disk.whole_files import write_whole

_MOST_ARRAY_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePictures:
    """No picture is in it in both forms: with both, whoever sees it can work out the morph key."""

    seen_N: NDArray[np.int64]
    """Numbers within the training split of those in the clear."""
    pixels_NCHW: NDArray[np.uint8]
    travelling_N: NDArray[np.int64]
    """Of the others."""
    travelling_NCHW: NDArray[np.float32]
    """Their codes, decoded as by whoever has no key, in the places that their values would have in a picture."""


def write_pictures(path: Path, pictures: SamplePictures) -> None:
    """Write the file, whole and for its owner only."""
    file = io.BytesIO()
    np.savez(file, **{field.name: getattr(pictures, field.name) for field in fields(pictures)})
    write_whole(path, file.getvalue())


def read_pictures(path: Path) -> SamplePictures | None:
    """What a site has kept; None where there is nothing, the file was cut off, or it is something else. An array is
    unpacked only where it has the size that it says, and that is no larger than a few pictures are."""
    try:
        with NpzFile(path, _MOST_ARRAY_BYTES) as kept:
            found = {field.name: kept.read(field.name) for field in fields(SamplePictures)}
    except DataError:
        return None
    pixels, travelling = found["pixels_NCHW"], found["travelling_NCHW"]
    fit = pixels.dtype == np.uint8 and travelling.dtype == np.float32 and pixels.ndim == 4
    numbered = all(found[name].dtype == np.int64 for name in ("seen_N", "travelling_N"))
    return SamplePictures(**found) if fit and numbered and len(pixels) and travelling.shape == pixels.shape else None  # type: ignore[arg-type]
