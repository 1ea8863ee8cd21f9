"""Public pictures as a site of the run would release them: with noise of the plan's distribution, where it has one.

The distribution is public but for the site's own spectrum, and public pictures of the same kind have nearly the same.

Legend: P public pictures, C channels, H W size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.attacks.means.pixel_values import to_inputs
from mple.plan import PrivacyMode, RunPlan
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum

_SECRET = bytes(32)
"""Of draws that hide nothing."""


def with_planned_noise(public_PCHW: NDArray[np.uint8], plan: RunPlan) -> Tensor:
    """Network inputs x_PCHW, float32, with the noise that the plan asks for."""
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
