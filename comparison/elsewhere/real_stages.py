"""A quantised network as fixed-point systems take it: real weights, no shift, no rounding down.

Such a system holds numbers with a fraction and rescales after every product; rounding down to integers would cost it a
comparison more per value. So each stage's weights are divided by its shift, and half a step is taken off its sums: what
rounding down takes off on average. Activations then differ from the quantised network's by less than one step each.

Legend: O I channels out and in, p kernel side, N pictures, C channels, H W size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from comparison.networks.quantised import LinearStage

_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class RealStage:
    """A convolution of stride 1 with padding p // 2, then, but for the last stage, ReLU, with a pool of 2x2."""

    weights_OIpp: NDArray[np.float64]
    bias_O: NDArray[np.float64]
    last: bool
    """Without ReLU: its sums are the logits."""
    pool: str
    """`none`, `max` before ReLU, or `sum` after it."""
    flatten: bool
    """The input becomes one pixel of C x H x W channels, in this order, first."""


def real_stages(stages: Sequence[LinearStage]) -> tuple[RealStage, ...]:
    """The stages of a quantised network in real numbers."""
    return tuple(_real(stage) for stage in stages)


def run_real(stages: Sequence[RealStage], x_NCHW: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits (N, O) in float64: what a fixed-point system would give with fractions of any length."""
    return np.concatenate([_logits(stages, x_NCHW[low : low + _AT_ONCE]) for low in range(0, len(x_NCHW), _AT_ONCE)])


def _logits(stages: Sequence[RealStage], x_NCHW: NDArray[np.int64]) -> NDArray[np.float64]:
    x = torch.from_numpy(np.asarray(x_NCHW, np.float64))
    for stage in stages:
        weights, bias = torch.from_numpy(stage.weights_OIpp), torch.from_numpy(stage.bias_O)
        if stage.flatten:
            x = x.reshape(len(x), -1, 1, 1)
        x = functional.conv2d(x, weights, bias, padding=weights.shape[2] // 2)
        if stage.pool == "max":
            x = functional.max_pool2d(x, 2)
        if not stage.last:
            x = functional.relu(x)
        if stage.pool == "sum":
            x = 4 * functional.avg_pool2d(x, 2)
    return x.reshape(len(x), -1).numpy()


def _real(stage: LinearStage) -> RealStage:
    scale = 1.0 if stage.shift is None else 2.0**-stage.shift
    # Of k numbers 0, 1/k, ..., (k-1)/k the mean is half a step less 1/2k.
    lost = 0.0 if stage.shift is None else (1.0 - scale) / 2
    return RealStage(
        weights_OIpp=stage.weights_OIpp.astype(np.float64) * scale,
        bias_O=stage.bias_O.astype(np.float64) * scale - lost,
        last=stage.shift is None,
        pool=stage.pool,
        flatten=stage.flatten,
    )
