"""A layer cut into the parts that one core each has made, and the stem as it acts on such a part.

Every block of an augmented layer is M⁻¹·G·P: Q rows, each the features of one image of a *region*, which is a tile or
the whole padded image. G is the stem on the unit images of the block's own pixels. Neither G nor a dense M is needed:
G is a convolution, its transpose a transposed one.

Legend: Q core side, C channels, F filters, p kernel side, R S height and width of the region, I J of its features.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mple.morph import Cores, Layout, MorphGeometry, expected_weight_shape
from mple.morph.augmented import AugmentedLayer

_IMAGES_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerBlock:
    """The rows of one core."""

    core: int
    """Which core has made it: 0 for all blocks of identical cores."""
    rows_QFIJ: Tensor
    """A view on the layer's weight."""
    pixels_CRS: Tensor
    """Boolean: the pixels of the region that are the block's own, Q of them, in the order of the block's values."""
    padding: int
    """Of the stem on the region."""

    @property
    def side(self) -> int:
        """Values of the block, Q."""
        return len(self.rows_QFIJ)

    def stem_gram(self, stem_FCpp: Tensor) -> Tensor:
        """G·Gᵀ (Q, Q), float64: inner products of the features of the block's pixels."""
        stem, own = stem_FCpp.double(), self.pixels_CRS.flatten()
        places = torch.nonzero(own).flatten()
        rows = []
        for some in _pieces(places):
            images = torch.zeros((len(some), own.numel()), dtype=torch.float64)
            images[torch.arange(len(some)), some] = 1.0
            features = functional.conv2d(images.view(-1, *self.pixels_CRS.shape), stem, padding=self.padding)
            rows.append(functional.conv_transpose2d(features, stem, padding=self.padding).flatten(1)[:, own])
        return torch.cat(rows)

    def on_stem(self, stem_FCpp: Tensor) -> Tensor:
        """A·Gᵀ (Q, Q), float64: each row of the layer, seen as features, brought back to the block's pixels."""
        stem, own = stem_FCpp.double(), self.pixels_CRS.flatten()
        rows = [
            functional.conv_transpose2d(some.double(), stem, padding=self.padding).flatten(1)[:, own]
            for some in _pieces(self.rows_QFIJ)
        ]
        return torch.cat(rows)

    def energy(self) -> float:
        """Sum of the squares of all weights."""
        return math.fsum(float(some.double().square().sum()) for some in _pieces(self.rows_QFIJ))


def features_of(layer: AugmentedLayer, t_NKQ: Tensor) -> Tensor:
    """What a layer makes of morphed pictures, f_NFHW in float32."""
    return torch.from_numpy(np.ascontiguousarray(layer.apply(t_NKQ.numpy()), np.float32))


def with_unused_rows(layer: AugmentedLayer) -> AugmentedLayer:
    """A layer for coefficients as one for whole blocks, whose last rows are 0; others as they are."""
    if layer.coefficients is None:
        return layer
    scheme, image = layer.scheme, layer.image_shape
    side = MorphGeometry.of(scheme, image).core_side
    shape = expected_weight_shape(scheme, image, layer.filters, layer.kernel)
    weight_KdO = layer.weight.reshape(math.prod(shape[:-1]) // side if len(shape) != 4 else 1, layer.coefficients, -1)
    whole_KQO = np.pad(weight_KdO, ((0, 0), (0, side - layer.coefficients), (0, 0)))
    return replace(layer, weight=whole_KQO.reshape(shape), coefficients=None, coding=None)


def layer_blocks(layer: AugmentedLayer) -> Iterator[LayerBlock]:
    """The blocks of a layer that differ: one for tiles with identical cores, else all."""
    scheme, image = layer.scheme, layer.image_shape
    geometry, whole_weight = MorphGeometry.of(scheme, image), torch.from_numpy(layer.weight)
    if scheme.layout is Layout.TILED:
        reach = scheme.tile + layer.kernel - 1
        weight = whole_weight if scheme.cores is Cores.DISTINCT else whole_weight[None]
        whole_CRS = torch.ones((image.channels, scheme.tile, scheme.tile), dtype=torch.bool)
        for core, rows in enumerate(weight):
            yield LayerBlock(
                core=core,
                rows_QFIJ=rows.reshape(geometry.core_side, layer.filters, reach, reach),
                pixels_CRS=whole_CRS,
                padding=layer.kernel - 1,
            )
        return
    side = geometry.core_side
    for block in range(geometry.blocks):
        own = torch.zeros(geometry.morphed_elements, dtype=torch.bool)
        own[block * side : (block + 1) * side] = True
        rows = whole_weight[block * side : (block + 1) * side]
        yield LayerBlock(
            core=0 if scheme.cores is Cores.IDENTICAL else block,
            rows_QFIJ=rows.view(side, layer.filters, image.height, image.width),
            pixels_CRS=own.view(image.channels, geometry.padded_height, geometry.padded_width),
            padding=layer.kernel // 2 - scheme.border,
        )


def _pieces(rows: Tensor) -> Iterator[Tensor]:
    """A few rows at a time: large results are handed back to the system and faulted in anew."""
    for low in range(0, len(rows), _IMAGES_AT_ONCE):
        yield rows[low : low + _IMAGES_AT_ONCE]
