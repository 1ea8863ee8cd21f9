"""Pixels to network inputs. All sites of a run use the plan's constants, never their own data's."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.data.settings import NormalisationSettings


def normalise(pixels_NCHW: NDArray[np.uint8], by: NormalisationSettings) -> Tensor:
    """float32 images x_NCHW. Raises ValueError: there are several means, but not one for each channel."""
    if len(by.mean) not in (1, pixels_NCHW.shape[1]):
        raise ValueError(f"{len(by.mean)} means for images of {pixels_NCHW.shape[1]} channels")
    scale = torch.tensor([1 / (255 * std) for std in by.std], dtype=torch.float32).view(1, -1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(by.mean, by.std, strict=True)]).float().view(1, -1, 1, 1)
    return torch.addcmul(shift, torch.from_numpy(pixels_NCHW).float(), scale)
