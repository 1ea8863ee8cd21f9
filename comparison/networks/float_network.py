"""A trained network as plain stages in floating point: what folding makes and quantisation takes.

The same stages as in `quantised`, with real weights and no shift: pixels come as the same integers, means over 2 x 2
positions are sums whose factor 1/4 is in the next stage's weights.

Legend: N pictures, C channels, H W size, O I channels out and in, p kernel side, K logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from comparison.networks.quantised import Pool
from mple.morph import ImageShape

_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FloatStage:
    """One convolution of stride 1 and padding p // 2; then, but for the last stage, ReLU and the pool."""

    name: str
    weights_OIpp: Tensor
    """float32."""
    bias_O: Tensor
    """float32."""
    pool: Pool = "none"
    flatten: bool = False
    """A dense layer: the map before becomes one pixel of C·H·W channels, in that order."""

    def sums(self, x_NCHW: Tensor) -> Tensor:
        """Weights times inputs plus bias."""
        if self.flatten:
            x_NCHW = x_NCHW.reshape(len(x_NCHW), -1, 1, 1)
        return functional.conv2d(x_NCHW, self.weights_OIpp, self.bias_O, padding=self.weights_OIpp.shape[2] // 2)

    def activated(self, sums_NOHW: Tensor) -> Tensor:
        """ReLU and pool of sums."""
        if self.pool == "max":
            sums_NOHW = functional.max_pool2d(sums_NOHW, 2)
        results_NOHW = functional.relu(sums_NOHW)
        return 4 * functional.avg_pool2d(results_NOHW, 2) if self.pool == "sum" else results_NOHW


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FloatNetwork:
    """All stages; the last one is linear."""

    name: str
    input_shape: ImageShape
    stages: tuple[FloatStage, ...]
    pixel_offset: int = 128
    """Taken from each pixel before the first stage."""

    def integers(self, pixels_NCHW: NDArray[np.uint8]) -> Tensor:
        """What the first stage takes, in float32."""
        return torch.from_numpy(pixels_NCHW).float() - self.pixel_offset

    @torch.no_grad()
    def run(self, pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, K)."""
        logits = []
        for low in range(0, len(pixels_NCHW), _AT_ONCE):
            x_BCHW = self.integers(pixels_NCHW[low : low + _AT_ONCE])
            for stage in self.stages[:-1]:
                x_BCHW = stage.activated(stage.sums(x_BCHW))
            logits.append(self.stages[-1].sums(x_BCHW).flatten(1).numpy())
        return np.concatenate(logits)
