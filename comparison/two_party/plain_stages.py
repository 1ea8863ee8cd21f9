"""The network's arithmetic on integers in the clear, stage by stage: what a server does with a share, or a picture.

Legend: C channels, H W size, O outputs, p kernel side, T terms of one sum.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comparison.two_party.public_network import StageForm, as_input, windows_of

_EXACT = 2**53
"""Integers up to here are exact in binary64."""


def linear_part(weights_OIpp: NDArray[np.int32], values_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convolution with 'same' padding, stride 1, exact.

    Args:
        weights_OIpp: Kernels of odd side.
        values_CHW: Integers of any sign.

    Raises ValueError: a sum might not be exact.
    """
    outputs, channels, side, _ = weights_OIpp.shape
    _, height, width = values_CHW.shape
    bound = int(np.abs(values_CHW).max(initial=0)) * int(np.abs(weights_OIpp.reshape(outputs, -1)).sum(1).max())
    if bound >= _EXACT:
        raise ValueError(f"sums up to {bound} are not exact; needs less than {_EXACT}")
    margin = side // 2
    padded = np.pad(values_CHW.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)))
    windows_CHWpp = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    terms_TX = windows_CHWpp.transpose(0, 3, 4, 1, 2).reshape(channels * side * side, height * width)
    sums_OX = weights_OIpp.reshape(outputs, -1).astype(np.float64) @ terms_TX
    return sums_OX.astype(np.int64).reshape(outputs, height, width)


def activation(stage: StageForm, sums_OHW: NDArray[np.int64]) -> NDArray[np.int64]:
    """Maximum of a window where the stage has one, ReLU, shift, sum of a window where the stage has one."""
    if stage.shift is None:
        return sums_OHW
    side = stage.circuit_side
    values_I = np.maximum(windows_of(stage, sums_OHW).max(0), 0) >> stage.shift
    values_OHW: NDArray[np.int64] = values_I.reshape(stage.outputs, side, side)
    if stage.pool != "sum":
        return values_OHW
    half = side // 2
    summed: NDArray[np.int64] = values_OHW.reshape(stage.outputs, half, 2, half, 2).sum(axis=(2, 4))
    return summed


def run_stages(
    stages: Sequence[StageForm],
    weights: Sequence[NDArray[np.int32]],
    biases: Sequence[NDArray[np.int64]],
    values_CHW: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The results of some stages, one after the other, on one picture."""
    for stage, weights_OIpp, bias_O in zip(stages, weights, biases, strict=True):
        sums_OHW = linear_part(weights_OIpp, as_input(stage, values_CHW)) + bias_O[:, None, None]
        values_CHW = activation(stage, sums_OHW)
    return values_CHW
