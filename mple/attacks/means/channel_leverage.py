"""The channel order of a layer, by leverage in the row space: no key hides it from whoever knows the stem.

A block of the layer is M⁻¹·G·P with invertible M, so its rows span the same space as those of G·P, whatever the key.
That stays true of any choice of columns. Take those of a few neighbouring output positions, more columns than pixels
that these positions look at: the projector onto the row space is not the identity, and its diagonal, the columns'
*leverage*, is the same for layer and stem but for the channel order. No product of the whole layer is needed: a window
of one position has F columns, and there are as many small problems as positions.

Rounding of the layer fills the space up; the rank is known from the stem, and the strongest directions are kept.

Legend: Q core side, C channels, F filters, p kernel side, I J size of the features of a region, D pixels that a window
looks at, V = F·w² columns of a window of w x w positions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.attacks.means.layer_blocks import LayerBlock

_SPARE = 1.25
"""Columns of a window for each pixel that it looks at, at least."""
_LEAST_RANK = 1e-9
"""Of the stem's singular values, against the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderGuess:
    """What leverage says of a channel order."""

    order_F: NDArray[np.int64]
    """Place j of the layer holds the stem's feature `order[j]`."""
    contested: int
    """Places whose nearest feature another place took: 0 where the stem is the layer's."""
    margin: float
    """The smallest ratio of a place's distance to its second nearest feature and to its nearest."""


def order_by_leverage(blocks: Iterable[LayerBlock], stem_FCpp: Tensor) -> OrderGuess:
    """The order in which the layer's channels are most like the stem's.

    Guarantees: right whatever the key and the cores' distribution, up to channels whose kernels have equal leverage
    everywhere. A wrong stem gives some order, too: see `contested`, and whether a key follows.
    """
    distance_FF = torch.zeros((len(stem_FCpp), len(stem_FCpp)), dtype=torch.float64)
    for block in blocks:
        distance_FF += _distances(block, stem_FCpp.double())
    return _assigned(distance_FF.sqrt().numpy())


def _distances(block: LayerBlock, stem_FCpp: Tensor) -> Tensor:
    """Squared distance of the leverages of each of the layer's channels from those of each of the stem's."""
    filters, _, kernel, _ = stem_FCpp.shape
    high, wide = block.rows_QFIJ.shape[2:]
    side = _window(filters, block, kernel)
    response_DV = _window_response(stem_FCpp, side)
    looked_at = functional.pad(block.pixels_CRS, (block.padding + side,) * 4)
    known: dict[bytes, tuple[int, Tensor]] = {}
    distance_FF = torch.zeros((filters, filters), dtype=torch.float64)
    for i in range(0, high, side):
        top = min(i, high - side)
        strip = block.rows_QFIJ[:, :, top : top + side].double()
        ranks, theirs, columns = [], [], []
        for j in range(0, wide, side):
            left = min(j, wide - side)
            down, right = top + side, left + side
            mask_D = looked_at[:, down : down + side + kernel - 1, right : right + side + kernel - 1].flatten()
            name = mask_D.numpy().tobytes()
            if name not in known:
                known[name] = _leverage_of(response_DV[mask_D])
            rank, leverage_V = known[name]
            if 0 < rank < len(leverage_V):
                ranks.append(rank)
                theirs.append(leverage_V)
                columns.append(strip[:, :, :, left : left + side].flatten(1))
        if not ranks:
            continue
        columns_WQV = torch.stack(columns)
        ours_WV = _leverages(torch.bmm(columns_WQV.transpose(1, 2), columns_WQV), ranks)
        ours, stems = (
            leverage.view(len(ranks), filters, -1).transpose(0, 1).flatten(1)
            for leverage in (ours_WV, torch.stack(theirs))
        )
        distance_FF += torch.cdist(ours, stems, compute_mode="donot_use_mm_for_euclid_dist").square()
    return distance_FF


def _window(filters: int, block: LayerBlock, kernel: int) -> int:
    """The least side of a window that has more columns than it sees pixels."""
    channels, most = block.pixels_CRS.shape[0], min(block.rows_QFIJ.shape[2:])
    for side in range(1, most + 1):
        if filters * side**2 >= _SPARE * channels * (side + kernel - 1) ** 2:
            return side
    return int(most)


def _window_response(stem_FCpp: Tensor, side: int) -> Tensor:
    """Features (D, V) that each pixel under a window gives in it."""
    _, channels, kernel, _ = stem_FCpp.shape
    extent = side + kernel - 1
    pixels = torch.eye(channels * extent**2, dtype=torch.float64).view(-1, channels, extent, extent)
    return functional.conv2d(pixels, stem_FCpp).flatten(1)


def _leverage_of(response_DV: Tensor) -> tuple[int, Tensor]:
    if not len(response_DV):
        return 0, torch.zeros(response_DV.shape[1], dtype=torch.float64)
    _, strength, directions = torch.linalg.svd(response_DV, full_matrices=False)
    rank = int((strength > _LEAST_RANK * strength.max()).sum())
    return rank, directions[:rank].square().sum(0)


def _leverages(grams_WVV: Tensor, ranks: list[int]) -> Tensor:
    _, directions_WVV = torch.linalg.eigh(grams_WVV)
    return torch.stack([of_V[:, -rank:].square().sum(1) for of_V, rank in zip(directions_WVV, ranks, strict=True)])


def _assigned(distance_FF: NDArray[np.float64]) -> OrderGuess:
    """Nearest pairs first, each channel once."""
    filters = len(distance_FF)
    nearest_two = np.sort(distance_FF, axis=1)[:, :2]
    order_F, taken = np.full(filters, -1, np.int64), np.zeros(filters, np.bool_)
    for flat in np.argsort(distance_FF, axis=None):
        place, feature = divmod(int(flat), filters)
        if order_F[place] < 0 and not taken[feature]:
            order_F[place], taken[feature] = feature, True
    contested = int((order_F != distance_FF.argmin(axis=1)).sum())
    margin = float((nearest_two[:, 1] / np.maximum(nearest_two[:, 0], 1e-300)).min())
    return OrderGuess(order_F=order_F, contested=contested, margin=margin)
