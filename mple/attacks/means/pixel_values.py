"""Pixels and the network inputs that are morphed, there and back.

Legend: N pictures, C channels, H W size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.data import Normalisation
from mple.plan import RunPlan


def to_inputs(pixels_NCHW: NDArray[np.uint8], plan: RunPlan) -> Tensor:
    """Network inputs x_NCHW, float32, as a site makes them."""
    return Normalisation(mean=plan.normalisation.mean, std=plan.normalisation.std).apply(pixels_NCHW)


def to_pixels(x_NCHW: Tensor, plan: RunPlan) -> NDArray[np.float32]:
    """Grey levels of network inputs: 0 to 255, not rounded; what lies outside is clipped."""
    mean, std = (
        torch.tensor(values, dtype=x_NCHW.dtype).view(1, -1, 1, 1)
        for values in (plan.normalisation.mean, plan.normalisation.std)
    )
    grey: NDArray[np.float32] = (255 * (x_NCHW * std + mean)).clamp_(0, 255).float().numpy()
    return grey


def grey_levels(plan: RunPlan) -> float:
    """Grey levels in one unit of the network inputs, of the channel with the widest."""
    return 255 * max(plan.normalisation.std)
