"""Levels: stored values as 8 bits, from black to white, and the word on a set that uses few of them.

Pure. Legend: N images, C channels, H W size.
"""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError, LabelledImages
from mple.ranges import Between

White = Annotated[float, Between(0, above=True)]
"""The stored value that is white, level 255; 0 is black."""

_HALF, _EIGHTH = 128, 32


def to_levels(values: NDArray[Any], white: float, where: str) -> NDArray[np.uint8]:
    """Levels from 0 to 255 of numbers from 0 to `white`: 255 · value / white, rounded, halves up.

    Guarantees: nothing is clipped.

    Raises DataError: a value is below 0, above `white` or no finite number; the text begins with `where`.
    """
    if values.dtype == np.uint8 and white == 255:
        return values.astype(np.uint8, copy=False)
    if values.size:
        low, high = values.min(), values.max()
        if not low >= 0 or not high < np.inf:
            bad = low if low < 0 or low != low else high
            raise DataError(f"{where} holds the value {bad!s}; only finite values from 0 to `white` are pictures")
        if high > white:
            above = f"{where} holds the value {high!s}, above its white level {white:g}"
            raise DataError(f"{above}; set white in [data] to the highest value that occurs")
    return np.floor(np.asarray(values, np.float64) * 255 / white + 0.5).astype(np.uint8)


def range_notes(*splits: LabelledImages, advice: str) -> list[str]:
    """A sentence, with this advice, on a set that uses a fraction of its range, as pictures of 12 bits in files of 16
    do; none on others.

    A set does where all its levels lie within less than half of the range, or some of its pictures, but not all, each
    within less than an eighth.
    """
    ends = [(block.min(axis=(1, 2, 3)), block.max(axis=(1, 2, 3))) for split in splits for block in split.blocks()]
    low_N, high_N = (np.concatenate(one).astype(np.int64) for one in zip(*ends, strict=True))
    few = high_N - low_N < _EIGHTH
    if high_N.max() - low_N.min() < _HALF:
        found = f"all pictures lie within {low_N.min()} to {high_N.max()} of 0 to 255"
    elif few.any():
        found = f"{few.sum()} of {len(few)} pictures span less than {_EIGHTH} of 256, up to {high_N[few].max()}"
    else:
        return []
    return [f"few levels: {found}; {advice}"]
