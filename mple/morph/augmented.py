"""Augmented layers: A = M⁻¹·C_r·P, built without C_r and without a dense M, applied without a dense A where it can be.

The rows of M⁻¹ are images; convolving them with the stem gives the rows of M⁻¹·C_r. For tiles with one core all rows
of blocks repeat the same q x F(s+p-1)² piece, and A is a transposed convolution (kernel s+p-1, stride s).

Guarantees: |apply(morph(x)) - conv(x)·P| <= 1e-5 of the feature range in float32 and <= 1e-11 in float64 for
orthogonal cores, every layout, kernel side 1, 3, 5, 7, and sizes that the tile does not divide. For uniform cores the
error grows with their condition number and nothing is promised.

Legend: B samples, C channels, H W size, K blocks, Q core side, F filters, O output positions of a block, N' = K·Q.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mple.morph.arithmetic import Floats
from mple.morph.convolution import convolve
from mple.morph.cores import draw_core
from mple.morph.keys import MorphKey
from mple.morph.scheme import Cores, ImageShape, Layout, MorphGeometry, MorphScheme, expected_weight_shape

_CHUNK_VALUES = 1024 * 1024
"""Values of one convolution's result or scratch, 8 MiB; larger ones are handed back to the system and faulted in anew,
which takes longer than the convolution."""


@dataclass(frozen=True, slots=True)
class AugmentedLayer:
    """A layer for one key: takes morphed blocks, gives the stem's features in the secret channel order."""

    scheme: MorphScheme
    image_shape: ImageShape
    kernel: int
    """p, side of the stem's kernels."""
    filters: int
    """Output channels, F."""
    weight: Floats
    """unrolled: (N', F·H·W); tiled, identical: (Q, F, s+p-1, s+p-1); tiled, distinct: (K, Q, F·(s+p-1)²)."""

    def __post_init__(self) -> None:
        expected = expected_weight_shape(self.scheme, self.image_shape, self.filters, self.kernel)
        if self.weight.shape != expected:
            raise ValueError(f"layer weight of shape {self.weight.shape}, needs {expected}")

    def apply(self, t_BKQ: Floats) -> Floats:
        """Features f_BFHW of morphed blocks: what the layer means; `mple.model.first_layer` has what trains fast.

        Raises ValueError: the blocks have another shape than the scheme gives.
        """
        geometry = MorphGeometry.of(self.scheme, self.image_shape)
        if t_BKQ.shape[1:] != (geometry.blocks, geometry.core_side):
            raise ValueError(
                f"morphed blocks of shape {t_BKQ.shape[1:]}, needs {(geometry.blocks, geometry.core_side)}"
            )
        height, width = self.image_shape.height, self.image_shape.width
        if self.scheme.layout is Layout.UNROLLED:
            return (t_BKQ.reshape(len(t_BKQ), geometry.morphed_elements) @ self.weight).reshape(
                len(t_BKQ), self.filters, height, width
            )
        reach, tile, halo = self.scheme.tile + self.kernel - 1, self.scheme.tile, self.kernel // 2
        weight_KQO = self.weight.reshape(-1, geometry.core_side, self.filters * reach * reach)
        pieces_KBO = t_BKQ.swapaxes(0, 1) @ weight_KQO
        pieces = pieces_KBO.reshape(geometry.rows, geometry.columns, len(t_BKQ), self.filters, reach, reach)
        sides = geometry.padded_height + self.kernel - 1, geometry.padded_width + self.kernel - 1
        whole = np.zeros((len(t_BKQ), self.filters, *sides), pieces.dtype)
        for row, column in itertools.product(range(geometry.rows), range(geometry.columns)):
            down, right = row * tile, column * tile
            whole[:, :, down : down + reach, right : right + reach] += pieces[row, column]
        return whole[:, :, halo : halo + height, halo : halo + width]


def build_augmented_layer(
    scheme: MorphScheme,
    image_shape: ImageShape,
    stem_FCpp: Floats,
    key: MorphKey,
    order: NDArray[np.int64],
    *,
    session: bytes,
    key_epoch: int,
    dtype: DTypeLike = np.float32,
) -> AugmentedLayer:
    """Build the layer of a key.

    Args:
        scheme: Layout, cores and ensemble.
        image_shape: Of the images that will be morphed.
        stem_FCpp: The first convolution's kernels, odd side, stride 1, padding p // 2, no bias.
        key: The site's key.
        order: Channel order; feature j of the layer is feature `order[j]` of the stem.
        session: As the morpher's.
        key_epoch: As the morpher's.
        dtype: Of the weight; sums are made in float64 whatever it is.

    Raises ValueError: the stem does not fit the image, or the order is none of its filters.
    """
    filters, channels, kernel, width = stem_FCpp.shape
    if channels != image_shape.channels or kernel != width or kernel % 2 == 0:
        raise ValueError(
            f"stem of shape {stem_FCpp.shape} for images of {image_shape.channels} channels; "
            "needs (F, C, p, p) with odd p"
        )
    if sorted(order.tolist()) != list(range(filters)):
        raise ValueError(f"a channel order of {len(order)} for {filters} filters is no permutation of them")
    stem = stem_FCpp.astype(np.float64)[order]
    geometry = MorphGeometry.of(scheme, image_shape)
    if scheme.layout is Layout.UNROLLED:
        if scheme.border > kernel // 2:
            raise ValueError(f"border = {scheme.border} is wider than half the kernel ({kernel // 2})")
        weight = _unrolled(scheme, image_shape, geometry, stem, key, session, key_epoch, dtype)
    else:
        weight = _tiled(scheme, geometry, stem, key, session, key_epoch, dtype)
    return AugmentedLayer(scheme, image_shape, kernel, filters, weight)


def _tiled(
    scheme: MorphScheme,
    geometry: MorphGeometry,
    stem: NDArray[np.float64],
    key: MorphKey,
    session: bytes,
    key_epoch: int,
    dtype: DTypeLike,
) -> Floats:
    filters, channels, kernel, _ = stem.shape
    side, reach = geometry.core_side, scheme.tile + kernel - 1
    count = 1 if scheme.cores is Cores.IDENTICAL else geometry.blocks
    weight = np.empty((count, side, filters, reach, reach), dtype)
    rows_at_once = _rows_at_once(stem, reach * reach)
    for block in range(count):
        core = draw_core(key, scheme, side, session=session, key_epoch=key_epoch, block=block)
        images_QCss = core.inverse_QQ.reshape(side, channels, scheme.tile, scheme.tile)
        for low in range(0, side, rows_at_once):
            some = slice(low, low + rows_at_once)
            weight[block, some] = convolve(images_QCss[some], stem, kernel - 1)
    return weight[0] if scheme.cores is Cores.IDENTICAL else weight.reshape(count, side, -1)


def _unrolled(
    scheme: MorphScheme,
    image: ImageShape,
    geometry: MorphGeometry,
    stem: NDArray[np.float64],
    key: MorphKey,
    session: bytes,
    key_epoch: int,
    dtype: DTypeLike,
) -> Floats:
    filters, channels, kernel, _ = stem.shape
    side, length = geometry.core_side, geometry.morphed_elements
    padding = kernel // 2 - scheme.border
    weight = np.zeros((length, filters, image.height, image.width), dtype)
    core = None
    for block in range(geometry.blocks):
        if core is None or scheme.cores is Cores.DISTINCT:
            core = draw_core(key, scheme, side, session=session, key_epoch=key_epoch, block=block)
        seen, top, bottom = _reach(geometry, channels, block * side, (block + 1) * side - 1)
        y_from, y_to = max(0, top + padding - kernel + 1), min(image.height, bottom + padding + 1)
        rows_at_once = _rows_at_once(stem, (y_to - y_from) * image.width)
        for low in range(0, side, rows_at_once):
            rows = core.inverse_QQ[low : low + rows_at_once]
            flat = np.zeros((len(rows), length))
            flat[:, block * side : (block + 1) * side] = rows
            images = flat.reshape(-1, channels, geometry.padded_height, geometry.padded_width)[:, seen]
            around = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
            start = block * side + low
            features = convolve(around[:, :, y_from : y_to + kernel - 1], stem[:, seen], 0)
            weight[start : start + len(rows), :, y_from:y_to] = features
    return weight.reshape(length, -1)


def _reach(geometry: MorphGeometry, channels: int, first: int, last: int) -> tuple[slice, int, int]:
    """The channels that a run of the unrolled image lies in, and its first and last row: all, where it has several."""
    plane = geometry.padded_height * geometry.padded_width
    channel = first // plane
    if last // plane > channel:
        return slice(0, channels), 0, geometry.padded_height - 1
    top, bottom = (place % plane // geometry.padded_width for place in (first, last))
    return slice(channel, channel + 1), top, bottom


def _rows_at_once(stem: NDArray[np.float64], positions: int) -> int:
    """Images to convolve in one go: a result has F·O values, its images unfold to C·p²·O before."""
    filters, channels, kernel, _ = map(int, stem.shape)
    return max(1, _CHUNK_VALUES // (positions * max(filters, channels * kernel * kernel)))
