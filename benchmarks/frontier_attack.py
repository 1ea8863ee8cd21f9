"""The strongest adversary of the lab against one distribution of noise: what it makes of noisy pictures once opened.

It has key and stem, so the pictures as the site noised them, and public pictures, on which nothing is attacked, for the
Wiener filter and the network of `mple.attacks.noise_removal`. Rounding by the codec is spared it.

Legend: N pictures, C channels, H W size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mple.attacks.means.denoising_network import NetworkSettings
from mple.attacks.means.pixel_values import to_pixels
from mple.attacks.noise_removal import denoise, linear_estimate
from mple.data import Dataset
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.privacy import PictureNoise
from mple.privacy.picture_scores import psnr, ssim

ATTACKED = 256
PUBLIC = 4096
NOTHING, WIENER, NETWORK = "as opened", "linear", "network"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attacked:
    """How near the adversary came, by way of cleaning; means over pictures."""

    ssim_by_way: dict[str, float]
    psnr_by_way: dict[str, float]
    pictures: int
    public_pictures: int


def attack_noise(dataset: Dataset, noise: PictureNoise | None, *, steps: int) -> Attacked:
    """Clean the first training pictures, the network having learned for so many steps; without noise, open them."""
    pixels_NCHW = dataset.train.take(np.arange(min(ATTACKED, len(dataset.train.labels)))).pixels_NCHW
    public_NCHW = dataset.test.take(np.arange(min(PUBLIC, len(dataset.test.labels)))).pixels_NCHW
    normalisation = NormalisationSettings()
    x_NCHW = torch.from_numpy(normalise(pixels_NCHW, normalisation))
    found = {NOTHING: x_NCHW}
    if noise is not None:
        noisy_NCHW = torch.from_numpy(noise.add(x_NCHW.numpy(), pixels_NCHW))
        learned = denoise(noisy_NCHW, noise.distribution, public_NCHW, NetworkSettings(steps=steps))
        found = {
            NOTHING: noisy_NCHW,
            WIENER: linear_estimate(noisy_NCHW, noise.distribution, public_NCHW),
            NETWORK: learned,
        }
    real_NCHW = pixels_NCHW.astype(np.float32)
    shown = {way: to_pixels(one, normalisation) for way, one in found.items()}
    return Attacked(
        ssim_by_way={way: float(np.mean(ssim(real_NCHW, one))) for way, one in shown.items()},
        psnr_by_way={way: float(np.mean(np.minimum(psnr(real_NCHW, one), 100.0))) for way, one in shown.items()},
        pictures=len(pixels_NCHW),
        public_pictures=len(public_NCHW),
    )
