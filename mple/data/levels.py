"""Levels: stored values as 8 bits, from black to white, and the word on a set that uses few of them.

Pure. Legend: N images, C channels, H W size.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError, LabelledImages
from mple.ranges import Between

White = Annotated[float, Between(0, above=True)]
"""The stored value that is white, level 255; 0 is black."""

_HALF, _EIGHTH = 128, 32


def to_levels(values: NDArray[np.generic], white: float, where: str) -> NDArray[np.uint8]:
    """Levels from 0 to 255 of numbers from 0 to `white`: 255 · value / white, rounded, halves up.

    Guarantees: nothing is clipped.

    Raises DataError: a value is below 0, above `white` or no finite number; the text begins with `where`.
    """
    if values.dtype == np.uint8 and white == 255:
        return values.astype(np.uint8, copy=False)
    if values.size:
        low, high = float(values.min()), float(values.max())
        if not low >= 0 or not high < np.inf:
            bad = low if low < 0 or low != low else high
            raise DataError(f"{where} holds the value {bad:g}; only finite values from 0 to `white` are pictures")
        if high > white:
            raise DataError(f"{where} holds the value {high:g}, above its white level {white:g}; {_higher(high)}")
    return np.floor(np.asarray(values, np.float64) * 255 / white + 0.5).astype(np.uint8)


def range_notes(*splits: LabelledImages, advice: str) -> list[str]:
    """A sentence, with this advice, on a set that uses a fraction of its range, as pictures of 12 bits in files of 16
    do; none on others.

    A set does where all its levels lie within less than half of the range, or some of its pictures, but not all, each
    within less than an eighth.
    """
    pixels = [split.pixels_NCHW.reshape(len(split), -1) for split in splits if len(split)]
    low_N = np.concatenate([split.min(axis=1) for split in pixels])
    high_N = np.concatenate([split.max(axis=1) for split in pixels])
    low, high = int(low_N.min()), int(high_N.max())
    if high - low < _HALF:
        return [f"few levels: all pictures lie within {low} to {high} of 0 to 255; {advice}"]
    few = high_N.astype(np.int64) - low_N < _EIGHTH
    if few.any():
        top = int(high_N[few].max())
        return [
            f"few levels: {few.sum()} of {len(few)} pictures span less than {_EIGHTH} of 256, up to {top}; {advice}"
        ]
    return []


def _higher(value: float) -> str:
    return f"set white in [data] to the highest value that occurs, {value:g} or more"
