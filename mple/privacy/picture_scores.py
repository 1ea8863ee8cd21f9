"""How near pictures come to others: PSNR, and structural similarity (Wang, Bovik, Sheikh & Simoncelli, 2004).

SSIM here is theirs to the letter: a Gaussian window of 11 x 11 with deviation 1.5, K1 = 0.01, K2 = 0.03, a range of
255, windows that lie within the picture; of colour pictures the mean over the channels. 1 is equality, noise without
any structure of the picture comes out near 0.

Legend: N pictures, C channels, H W size.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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
    x, y = (torch.from_numpy(np.asarray(side)).double().flatten(0, 1).unsqueeze(1) for side in (one_NCHW, other_NCHW))
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    variance_x = _smoothed(x * x) - mean_x * mean_x
    variance_y = _smoothed(y * y) - mean_y * mean_y
    covariance = _smoothed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    mean_N: NDArray[np.float64] = (luminance * structure).flatten(1).mean(1).view(len(one_NCHW), -1).mean(1).numpy()
    return mean_N


def _smoothed(planes: Tensor) -> Tensor:
    """Local means of planes (·, 1, H, W) under the window; it is a product of two, one along each axis."""
    places = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * _DEVIATION**2))
    weights /= weights.sum()
    down = functional.conv2d(planes, weights.view(1, 1, -1, 1))
    return functional.conv2d(down, weights.view(1, 1, 1, -1))


def _require_alike(one: Pixels, other: Pixels) -> None:
    if one.shape != other.shape or one.ndim != 4:
        raise ValueError(f"pictures of shapes {one.shape} and {other.shape}; needs two of one shape (N, C, H, W)")
