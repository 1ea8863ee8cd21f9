"""Levels of pictures, from 0 to 255, counted. Pure.

Legend: N pictures, C channels, H W size.
"""

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


def level_counts(pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many values of each channel have each level (C, 256)."""
    channels = range(pixels_NCHW.shape[1])
    counts = [np.bincount(pixels_NCHW[:, channel].reshape(-1), minlength=LEVELS) for channel in channels]
    return np.stack(counts).astype(np.int64)


def level_below(counts: NDArray[np.int64], share: float) -> int:
    """The lowest level that at least this share of the values does not exceed: NumPy's percentile by
    `inverted_cdf`."""
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
