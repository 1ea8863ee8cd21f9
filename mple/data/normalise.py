"""Pixels to network inputs. All sites of a run use the plan's constants, never their own data's."""

import numpy as np
from numpy.typing import NDArray

from mple.data.settings import NormalisationSettings


def normalise(pixels_NCHW: NDArray[np.uint8], by: NormalisationSettings) -> NDArray[np.float32]:
    """float32 images x_NCHW. Raises ValueError: there are several means, but not one for each channel."""
    if len(by.mean) not in (1, pixels_NCHW.shape[1]):
        raise ValueError(f"{len(by.mean)} means for images of {pixels_NCHW.shape[1]} channels")
    scale_C = np.array([1 / (255 * std) for std in by.std], np.float32).astype(np.float64)
    shift_C = np.array([-mean / std for mean, std in zip(by.mean, by.std, strict=True)], np.float32)
    levels_CP = (shift_C[:, None] + scale_C[:, None] * np.arange(256)).astype(np.float32)
    x_NCHW = np.empty(pixels_NCHW.shape, np.float32)
    for channel in range(pixels_NCHW.shape[1]):
        np.take(levels_CP[channel % len(levels_CP)], pixels_NCHW[:, channel], out=x_NCHW[:, channel], mode="clip")
    return x_NCHW
