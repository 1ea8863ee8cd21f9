"""Kinds of trunks: all that lies behind a network's first convolution. Each is a row of `TRUNKS`, which plans name.

One more kind is one more module, with the network, and one more row here. Importing this needs no torch: plans are
read by nodes that have none; a row imports its module when a trunk is made.
"""

from __future__ import annotations

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
    make: Callable[[ModelSettings, int], nn.Module]
    """A trunk for so many classes with weights of any values; `mple.model.weights.build_trunk` draws them."""


def scaled(full: int, width: float) -> int:
    """Channels of a layer that has `full` of them at width 1."""
    return max(8, round(full * width))


def _vgg16(model: ModelSettings, classes: int) -> nn.Module:
    from mple.model.vgg16 import Vgg16Trunk

    return Vgg16Trunk(classes=classes, width=model.width, dropout=model.dropout)


TRUNKS: Mapping[str, TrunkSpec] = {
    "vgg16": TrunkSpec(filters=lambda width: scaled(64, width), least_px=28, most_px=224, make=_vgg16)
}
