"""Augmentation of pictures that nobody has: what is done to their feature maps, so that nothing more crosses the wire.

| kind | the maps are | and so, exactly, those of |
| --- | --- | --- |
| mirror | mirrored left to right, channels exchanged in pairs | the mirrored picture, borders included |
| shift | moved, zeros moving in | the moved picture, but for p // 2 pixels along its edges |
| erase | zero in a rectangle | the picture with the mean there, but for p // 2 pixels along the rectangle's edges |

Mirroring needs a stem that holds each kernel's mirror image, `mple.model.stem.mirror_images`. The mean is that of the
normalisation: every channel answers zero to it, since the stem has no bias, so that erasing needs no fact about them.

Randomness is a function of seed and step, so that a restart needs no random state.

Legend: B samples, F filters, H W size.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.model.settings import Augment, TrainingSettings

_MOST_RATIO = 3.0
"""Of an erased rectangle's sides."""
_SHIFT, _MIRROR, _ERASE = 2, 3, 4
"""What tells the draws of one step apart."""


class Augmentation:
    """What varies the samples of a training."""

    def __init__(
        self, settings: TrainingSettings, mirrored_channels: NDArray[np.int64] | None = None, rank: int = 0
    ) -> None:
        """Take the settings.

        Args:
            settings: Of the training.
            mirrored_channels: Of each channel the one that holds its mirror image, where the settings mirror.
            rank: Of this process, where several train together: each varies its samples otherwise.

        Raises ValueError: the settings mirror, and nothing is said of channels.
        """
        if Augment.MIRROR in settings.augment and mirrored_channels is None:
            raise ValueError("feature maps can't be mirrored without the channels' mirror images")
        self._settings, self._mirrored_channels = settings, mirrored_channels
        self._of_rank = [rank] if rank else []

    def varied(self, f_BFHW: Tensor, step: int) -> Tensor:
        """The features of one step, counted from 0 over all epochs; as they are where nothing varies them."""
        kinds, seed = self._settings.augment, self._settings.seed
        if Augment.MIRROR in kinds and self._mirrored_channels is not None:
            f_BFHW = mirrored(f_BFHW, self._mirrored_channels, [seed, _MIRROR, step, *self._of_rank])
        if Augment.SHIFT in kinds:
            f_BFHW = shifted(f_BFHW, self._settings.shift_px, [seed, _SHIFT, step, *self._of_rank])
        if Augment.ERASE in kinds:
            f_BFHW = erased(f_BFHW, self._settings, [seed, _ERASE, step, *self._of_rank])
        return f_BFHW


def mirrored(f_BFHW: Tensor, mirrored_channels: NDArray[np.int64], seed: list[int]) -> Tensor:
    """Each sample's maps as they are or, with a chance of one half, mirrored left to right, which equals the features
    of the mirrored image: channel c then holds the mirrored map of channel `mirrored_channels[c]`."""
    rows = torch.from_numpy(np.flatnonzero(_generator(seed).random(len(f_BFHW)) < 0.5)).to(f_BFHW.device)
    channels = torch.from_numpy(mirrored_channels).to(f_BFHW.device)
    turned = f_BFHW.clone()
    turned[rows] = f_BFHW[rows][:, channels].flip(3)
    return turned


def shifted(f_BFHW: Tensor, most_px: int, seed: list[int]) -> Tensor:
    """Each sample's maps moved by up to `most_px` along both axes, zeros moving in. Away from the border this equals
    the features of the shifted image: convolution commutes with translation."""
    batch, _, height, width = f_BFHW.shape
    moves_B2 = _generator(seed).integers(0, 2 * most_px + 1, size=(batch, 2)).tolist()
    padded = functional.pad(f_BFHW, (most_px,) * 4)
    moved = torch.empty_like(f_BFHW)
    for i, (down, right) in enumerate(moves_B2):
        moved[i] = padded[i, :, down : down + height, right : right + width]
    return moved


def erased(f_BFHW: Tensor, settings: TrainingSettings, seed: list[int]) -> Tensor:
    """In the samples that are drawn for it, a rectangle of all maps set to zero (Zhong et al., 2020): its area uniform
    between the shares that the settings name, its sides at most 3 to 1, its place uniform within the maps."""
    batch, _, height, width = f_BFHW.shape
    drawn_B5 = _generator(seed).random((batch, 5))
    chosen_B = drawn_B5[:, 0] < settings.erase_share
    area_B = settings.erase_least + drawn_B5[:, 1] * (settings.erase_most - settings.erase_least)
    ratio_B = np.exp((2 * drawn_B5[:, 2] - 1) * math.log(_MOST_RATIO))
    tall_B = np.sqrt(area_B * height * width * ratio_B).round().astype(int).clip(1, height)
    wide_B = np.sqrt(area_B * height * width / ratio_B).round().astype(int).clip(1, width)
    top_B = (drawn_B5[:, 3] * (height - tall_B + 1)).astype(int)
    left_B = (drawn_B5[:, 4] * (width - wide_B + 1)).astype(int)
    left_over = f_BFHW.clone()
    for i in np.flatnonzero(chosen_B).tolist():
        left_over[i, :, top_B[i] : top_B[i] + tall_B[i], left_B[i] : left_B[i] + wide_B[i]] = 0
    return left_over


def _generator(seed: list[int]) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
