"""Kinds of trunks: all that lies behind a network's first convolution. Each is a row of `TRUNKS`, which plans name.

One more kind is one more module, with the network, and one more row here. Importing this needs no torch: plans are
read by nodes that have none; a row imports its module when a trunk is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from mple.model.settings import ModelSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkSpec:
    """What a plan must know of a kind of trunk, and how one is made."""

    filters: Callable[[float], int]
    """Output channels of the first convolution, which the trunk takes, by `model.width`."""
    least_px: int
    most_px: int
    """Sides of images that it takes."""
    weights: Callable[[float, int], int]
    """Weights, by `model.width` and the number of classes."""
    kept_values: Callable[[float, int, int], int]
    """Values that a step keeps of each sample for the way back, by `model.width`, height and width in pixels."""
    make: Callable[[ModelSettings, int], nn.Module]
    """A trunk for so many classes with weights of any values; `mple.model.weights.build_trunk` draws them."""


def scaled(full: int, width: float) -> int:
    """Channels of a layer that has `full` of them at width 1."""
    return max(8, round(full * width))


VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of VGG-16's convolutions at width 1; the very first is the stem."""


def _vgg16_weights(width: float, classes: int) -> int:
    counts = [scaled(full, width) for stage in VGG16_STAGES for full in stage]
    convolutions = sum(9 * before * after for before, after in itertools.pairwise(counts))
    return convolutions + 2 * sum(counts) + (counts[-1] + 1) * classes


def _vgg16_kept_values(width: float, height: int, width_px: int) -> int:
    """Of each convolution its own output and that of the rectifier behind it, and what each pool gives."""
    values = 0
    for stage in VGG16_STAGES:
        values += 2 * sum(scaled(full, width) for full in stage) * height * width_px
        height, width_px = -(-height // 2), -(-width_px // 2)
        values += scaled(stage[-1], width) * height * width_px
    return values


def _vgg16(model: ModelSettings, classes: int) -> nn.Module:
    from mple.model.vgg16 import Vgg16Trunk

    return Vgg16Trunk(classes=classes, width=model.width, dropout=model.dropout)


TRUNKS: Mapping[str, TrunkSpec] = {
    "vgg16": TrunkSpec(
        filters=lambda width: scaled(64, width),
        least_px=28,
        most_px=224,
        weights=_vgg16_weights,
        kept_values=_vgg16_kept_values,
        make=_vgg16,
    )
}
