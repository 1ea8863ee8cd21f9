"""Pixels to network inputs. All sites of a run use the plan's constants, never their own data's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """(pixel / 255 - mean) / std, one value for all channels or one each."""

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean = {self.mean}, std = {self.std}; need equal counts and std above 0")

    def apply(self, pixels_NCHW: NDArray[np.uint8]) -> Tensor:
        """float32 images x_NCHW.

        Raises:
            ValueError: There are several means, but not one for each channel.
        """
        if len(self.mean) not in (1, pixels_NCHW.shape[1]):
            raise ValueError(f"{len(self.mean)} means for images of {pixels_NCHW.shape[1]} channels")
        scale = torch.tensor([1 / (255 * std) for std in self.std], dtype=torch.float32).view(1, -1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)]).float().view(1, -1, 1, 1)
        return torch.addcmul(shift, torch.from_numpy(pixels_NCHW).float(), scale)
