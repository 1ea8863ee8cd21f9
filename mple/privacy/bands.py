"""The fixed basis in which noise is shaped, and its bands: the discrete cosine transform over channels, rows, columns.

It does not depend on anybody's pictures. Over three channels its vectors are grey, red against blue, and green against
both; over rows and columns, frequencies. Natural pictures are nearly uncorrelated in it. Values of one channel vector
whose frequency lies within half an octave form a band, the constant one a band of its own.

Legend: N pictures, C channels, H W size, K bands.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape

Pictures = NDArray[np.float64]


def to_cosines(x_NCHW: Pictures) -> Pictures:
    """Coefficients in the basis, of the same shape; lengths and inner products are kept."""
    channels, height, width = (cosine_matrix(side) for side in x_NCHW.shape[1:])
    rows_NCHW: Pictures = height @ (x_NCHW @ width.T)
    return _over_channels(channels, rows_NCHW)


def from_cosines(z_NCHW: Pictures) -> Pictures:
    """Undoes `to_cosines`."""
    channels, height, width = (cosine_matrix(side) for side in z_NCHW.shape[1:])
    rows_NCHW: Pictures = height.T @ (z_NCHW @ width)
    return _over_channels(channels.T, rows_NCHW)


def _over_channels(matrix_CC: NDArray[np.float64], z_NCHW: Pictures) -> Pictures:
    turned: Pictures = (matrix_CC @ z_NCHW.reshape(*z_NCHW.shape[:2], -1)).reshape(z_NCHW.shape)
    return turned


@cache
def cosine_matrix(side: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II: row u is the cosine of u half waves."""
    u, place = np.arange(side)[:, None], np.arange(side)[None]
    matrix: NDArray[np.float64] = np.cos(np.pi * (2 * place + 1) * u / (2 * side)) * np.sqrt(2 / side)
    matrix[0] = np.sqrt(1 / side)
    return matrix


@cache
def band_numbers(image: ImageShape) -> NDArray[np.int64]:
    """The band of each coefficient (C, H, W), from 0; every number up to the largest occurs."""
    longer = max(image.height, image.width)
    down_H = np.arange(image.height)[:, None] * (longer / image.height)
    along_W = np.arange(image.width)[None] * (longer / image.width)
    square_HW = down_H**2 + along_W**2
    octave_HW = np.where(square_HW > 0, 1 + np.floor(np.log2(np.maximum(square_HW, 1.0))), 0).astype(np.int64)
    _, band_HW = np.unique(octave_HW, return_inverse=True)
    channel_C = np.arange(image.channels)[:, None, None] * (int(band_HW.max()) + 1)
    return channel_C + band_HW.reshape(octave_HW.shape)[None]


def band_counts(image: ImageShape) -> NDArray[np.int64]:
    """Values in each band (K)."""
    return np.bincount(band_numbers(image).reshape(-1)).astype(np.int64)
