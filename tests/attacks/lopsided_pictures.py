"""Pictures that are no mirror image of their negatives, nor alike in all colours, as those of nature are not."""

from __future__ import annotations

import numpy as np
from morphed_world import natural_pixels
from numpy.typing import NDArray


def lopsided_pixels(count: int, *, side: int = 16, seed: int = 1) -> NDArray[np.uint8]:
    """Dark is more frequent than bright, and each colour has a contrast and a sharpness of its own."""
    share = (natural_pixels(count, side=side, seed=seed) / 255.0) ** 2
    for channel, (gain, blurs) in enumerate(((1.0, 0), (0.8, 1), (0.6, 3))):
        for _ in range(blurs):
            share[:, channel] = (share[:, channel] + np.roll(share[:, channel], 1, axis=2)) / 2
        share[:, channel] *= gain
    return np.clip(255 * share, 0, 255).astype(np.uint8)
