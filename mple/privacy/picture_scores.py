"""How near pictures come to others: PSNR, and structural similarity (Wang, Bovik, Sheikh & Simoncelli, 2004).

SSIM here is theirs to the letter: a Gaussian window of 11 x 11 with deviation 1.5, K1 = 0.01, K2 = 0.03, a range of
255, windows that lie within the picture; of colour pictures the mean over the channels. 1 is equality, noise without
any structure of the picture comes out near 0.

Legend: N pictures, C channels, H W size.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RANGE = 255.0
_WINDOW, _DEVIATION = 11, 1.5
_C1, _C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
_AT_ONCE = 256

Pixels = NDArray[np.float32] | NDArray[np.uint8]


def psnr(one_NCHW: Pixels, other_NCHW: Pixels) -> NDArray[np.float64]:
    """10·log10(255² / mean squared error) of each picture, in dB; infinite for equal ones."""
    _require_alike(one_NCHW, other_NCHW)
    difference = one_NCHW.astype(np.float64) - other_NCHW
    with np.errstate(divide="ignore"):
        decibel: NDArray[np.float64] = 10 * np.log10(RANGE**2 / np.square(difference).mean(axis=(1, 2, 3)))
    return decibel


def ssim(one_NCHW: Pixels, other_NCHW: Pixels) -> NDArray[np.float64]:
    """Mean structural similarity of each picture, -1 to 1.

    Raises ValueError: the shapes differ, or a side is below 11 pixels.
    """
    _require_alike(one_NCHW, other_NCHW)
    if min(one_NCHW.shape[2:]) < _WINDOW:
        raise ValueError(f"pictures of shape {one_NCHW.shape[1:]}; SSIM needs {_WINDOW} pixels a side or more")
    parts = [
        _similarity(one_NCHW[low : low + _AT_ONCE], other_NCHW[low : low + _AT_ONCE])
        for low in range(0, len(one_NCHW), _AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _similarity(one_NCHW: Pixels, other_NCHW: Pixels) -> NDArray[np.float64]:
    x, y = one_NCHW.astype(np.float64), other_NCHW.astype(np.float64)
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    variance_x = _smoothed(x * x) - mean_x * mean_x
    variance_y = _smoothed(y * y) - mean_y * mean_y
    covariance = _smoothed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    mean_N: NDArray[np.float64] = (luminance * structure).mean((1, 2, 3))
    return mean_N


def _smoothed(levels_NCHW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Local means under the window; it is a product of two, one along each axis."""
    weights = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _DEVIATION**2))
    weights /= weights.sum()
    for axis in (2, 3):
        levels_NCHW = sliding_window_view(levels_NCHW, _WINDOW, axis=axis) @ weights
    return levels_NCHW


def _require_alike(one: Pixels, other: Pixels) -> None:
    if one.shape != other.shape or one.ndim != 4:
        raise ValueError(f"pictures of shapes {one.shape} and {other.shape}; needs two of one shape (N, C, H, W)")
