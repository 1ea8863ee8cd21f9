"""Convolutions of some images with small kernels, as one product of matrices; stride 1, sums in the inputs' dtype.

Legend: N images, C channels, F filters, p kernel side, H W size.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mple.morph.arithmetic import Floats


def convolve(x_NCHW: Floats, kernels_FCpp: Floats, padding: int) -> Floats:
    """Cross-correlation with `padding` zeros on each side, as networks call convolution: (N, F, H', W')."""
    filters, _, side, _ = kernels_FCpp.shape
    around = (padding, padding)
    padded = np.pad(x_NCHW, ((0, 0), (0, 0), around, around))
    windows = sliding_window_view(padded, (side, side), axis=(2, 3)).transpose(1, 4, 5, 0, 2, 3)
    images, height, width = windows.shape[3:]
    f_FL = kernels_FCpp.reshape(filters, -1) @ windows.reshape(-1, images * height * width)
    return f_FL.reshape(filters, images, height, width).swapaxes(0, 1)


def convolve_back(f_NFHW: Floats, kernels_FCpp: Floats, padding: int) -> Floats:
    """The transpose of `convolve` as a linear map, with equal padding: (N, C, H, W)."""
    turned_CFpp = kernels_FCpp[:, :, ::-1, ::-1].swapaxes(0, 1)
    return convolve(f_NFHW, turned_CFpp, kernels_FCpp.shape[2] - 1 - padding)
