"""Pixels and the network inputs that are morphed, there and back; public pictures as a site would release them.

Legend: N pictures, P public pictures, C channels, H W size.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.data.normalise import normalise
from mple.plan import NormalisationSettings, PrivacyMode, RunPlan
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum


def to_inputs(pixels_NCHW: NDArray[np.uint8], plan: RunPlan) -> Tensor:
    """Network inputs x_NCHW, float32, as a site makes them."""
    return torch.from_numpy(normalise(pixels_NCHW, plan.normalisation))


def to_pixels(x_NCHW: Tensor, normalisation: NormalisationSettings) -> NDArray[np.float32]:
    """Grey levels of network inputs: 0 to 255, not rounded; what lies outside is clipped."""
    mean, std = (
        torch.tensor(values, dtype=x_NCHW.dtype).view(1, -1, 1, 1) for values in (normalisation.mean, normalisation.std)
    )
    grey: NDArray[np.float32] = (255 * (x_NCHW * std + mean)).clamp_(0, 255).float().numpy()
    return grey


def grey_levels(plan: RunPlan) -> float:
    """Grey levels in one unit of the network inputs, of the channel with the widest."""
    return 255 * max(plan.normalisation.std)


_SECRET = bytes(32)
"""Of draws that hide nothing."""


def with_planned_noise(public_PCHW: NDArray[np.uint8], plan: RunPlan) -> Tensor:
    """Public pictures as a site of the run would release them: network inputs x_PCHW, float32, with the plan's noise.
    The distribution is public but for the site's own spectrum, and public pictures of the same kind have nearly the
    same."""
    x_PCHW = to_inputs(public_PCHW, plan)
    distribution = estimated_distribution(public_PCHW, plan)
    if distribution is None:
        return x_PCHW
    return torch.from_numpy(PictureNoise(_SECRET, distribution).add(x_PCHW.numpy(), public_PCHW))


def estimated_distribution(public_PCHW: NDArray[np.uint8], plan: RunPlan) -> NoiseDistribution | None:
    """The distribution of noise that an adversary infers; None where the plan has no noise."""
    if plan.privacy.mode is PrivacyMode.NONE:
        return None
    spectrum = measure_spectrum(public_PCHW, plan.normalisation)
    return NoiseDistribution(spectrum=spectrum, privacy=plan.privacy, normalisation=plan.normalisation)
