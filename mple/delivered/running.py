"""Running a delivered network by numpy alone: at a hospital no other library for it is installed.

Legend: B pictures, C channels or classes, H W size, F filters, p kernel side.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import BATCH_NORM_EPSILON, BIAS, NORM, WEIGHT, Tensors, layer_places

_VALUES_AT_ONCE = 2**21
"""Of the first stage's maps: what a run takes in memory does not grow with the number of pictures."""
_WINDOW_BYTES = 2**21
"""Of what a convolution reads at a time, so that it stays near the processor."""


class PlainNetwork:
    """A plain network in memory, to be asked. Each batch norm is folded into the convolution before it."""

    def __init__(self, tensors: Tensors, about: NetworkAbout) -> None:
        self.about = about
        self._layers = [None if place is None else _folded(tensors, place) for place in layer_places(about)]
        self._weight_CF, self._bias_C = tensors[WEIGHT], tensors[BIAS]

    def logits(self, pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's answers (B, classes), float32, in the order of `about.classes`.

        Raises ValueError: the pictures are not uint8 of the network's channels and sides.
        """
        return self.logits_and_maps(pixels_BCHW)[0]

    def logits_and_maps(self, pixels_BCHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The answers, and the last stage's feature maps (B, F, ceil(H / 16), ceil(W / 16)) before the last pool."""
        require_pictures(pixels_BCHW, self.about)
        parts = [self._asked(group) for group in _groups(pixels_BCHW, self.about)]
        logits_BC, maps_BFHW = (np.concatenate(one) for one in zip(*parts, strict=True))
        return logits_BC, maps_BFHW

    def _asked(self, pixels_BCHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale_C, shift_C = self.about.scale_and_shift()
        maps_BHWF = pixels_BCHW.transpose(0, 2, 3, 1) * scale_C + shift_C
        for layer in self._layers[:-1]:
            maps_BHWF = _pooled(maps_BHWF) if layer is None else _convolved(maps_BHWF, *layer)
        logits_BC = _pooled(maps_BHWF).mean(axis=(1, 2)) @ self._weight_CF.T + self._bias_C
        return logits_BC, maps_BHWF.transpose(0, 3, 1, 2)


def require_pictures(pixels_BCHW: NDArray[np.uint8], about: NetworkAbout) -> None:
    """Raise ValueError when pictures are not what a network takes."""
    due = (about.channels, about.height, about.width)
    if pixels_BCHW.dtype != np.uint8 or pixels_BCHW.ndim != 4 or pixels_BCHW.shape[1:] != due or not len(pixels_BCHW):
        text = f"pictures {pixels_BCHW.dtype} of shape {pixels_BCHW.shape}"
        raise ValueError(f"{text}; the network takes uint8 (one or more, {', '.join(map(str, due))})")


def _groups(pixels_BCHW: NDArray[np.uint8], about: NetworkAbout) -> Iterator[NDArray[np.uint8]]:
    most = max(1, _VALUES_AT_ONCE // (about.channel_counts[0][0] * about.height * about.width))
    for begin in range(0, len(pixels_BCHW), most):
        yield pixels_BCHW[begin : begin + most]


def _folded(tensors: Tensors, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernels (p, p, C, F) and shifts (F) of a convolution and the batch norm behind it, as one."""
    kernels_FCpp, bias_F = tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"]
    weight_F, shift_F, mean_F, var_F = (tensors[f"features.{place + 1}.{name}"].astype(np.float64) for name in NORM)
    scale_F = weight_F / np.sqrt(var_F + BATCH_NORM_EPSILON)
    kernels_ppCF = np.ascontiguousarray(kernels_FCpp.transpose(2, 3, 1, 0))
    kernels_ppCF *= scale_F.astype(np.float32)
    return kernels_ppCF, (shift_F + (bias_F - mean_F) * scale_F).astype(np.float32)


def _convolved(
    maps_BHWC: NDArray[np.float32], kernels_ppCF: NDArray[np.float32], shift_F: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A convolution of unchanged size and its rectifier (B, H, W, F), as products of matrices: some rows at a time."""
    side, filters = kernels_ppCF.shape[0], kernels_ppCF.shape[-1]
    edge = (side // 2, side // 2)
    padded_BHWC = np.pad(maps_BHWC, [(0, 0), edge, edge, (0, 0)])
    windows_BHWppC = sliding_window_view(padded_BHWC, (side, side), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    count, height, width = windows_BHWppC.shape[:3]
    matrix_KF = kernels_ppCF.reshape(-1, filters)
    out_BHWF = np.empty((count, height, width, filters), np.float32)
    rows = max(1, _WINDOW_BYTES // (matrix_KF.shape[0] * width * 4))
    pictures = max(1, rows // height)
    for first in range(0, count, pictures):
        for top in range(0, height, rows):
            part = (slice(first, first + pictures), slice(top, top + rows))
            out_BHWF[part] = (windows_BHWppC[part].reshape(-1, len(matrix_KF)) @ matrix_KF).reshape(
                out_BHWF[part].shape
            )
    out_BHWF += shift_F
    return np.maximum(out_BHWF, 0, out=out_BHWF)


def _pooled(maps_BHWF: NDArray[np.float32]) -> NDArray[np.float32]:
    """The greatest of each 2 x 2 positions; of an odd side's last ones, of those that there are."""
    height, width = maps_BHWF.shape[1:3]
    if height % 2 or width % 2:
        maps_BHWF = np.pad(maps_BHWF, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], constant_values=-np.inf)
    rows_BHWF = np.maximum(maps_BHWF[:, 0::2], maps_BHWF[:, 1::2])
    return np.maximum(rows_BHWF[:, :, 0::2], rows_BHWF[:, :, 1::2])
