"""Pictures that differ from their negatives and mirror images, and from colour to colour, as those of nature do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.support.morphed_world import natural_pixels


def lopsided_pixels(count: int, *, side: int = 16, seed: int = 1) -> NDArray[np.uint8]:
    """Dark is more frequent than bright, light comes from above left, each colour has its contrast and sharpness.

    Cut from larger ones, which repeat themselves beyond their edges.
    """
    share = (natural_pixels(count, side=2 * side, seed=seed)[:, :, :side, :side] / 255.0) ** 2
    down, right = np.meshgrid(np.linspace(1, 0, side), np.linspace(1, 0, side), indexing="ij")
    share *= 0.6 + 0.5 * down + 0.3 * right**2
    for channel, (gain, blurs) in enumerate(((1.0, 0), (0.8, 1), (0.6, 3))):
        for _ in range(blurs):
            share[:, channel] = (share[:, channel] + np.roll(share[:, channel], 1, axis=2)) / 2
        share[:, channel] *= gain
    return np.clip(255 * share, 0, 255).astype(np.uint8)
