"""Augmented layers: A = M⁻¹·C_r·P, built without C_r and without a dense M, applied without a dense A where it can be.

The rows of M⁻¹ are images; convolving them with the stem gives the rows of M⁻¹·C_r. For tiles with one core all rows
of blocks repeat the same q x F(s+p-1)² piece, and A is a transposed convolution (kernel s+p-1, stride s).

Guarantees: |apply(morph(x)) - conv(x)·P| <= 1e-5 of the feature range in float32 and <= 1e-11 in float64 for
orthogonal cores, every layout, kernel side 1, 3, 5, 7, and sizes that the tile does not divide. For uniform cores the
error grows with their condition number and nothing is promised.

A layer for coefficients c (see `mple.morph.basis`) is A' = W~'·A, d rows instead of Q. It is built with the same
convolutions, of the rows of W~'·M⁻¹, or of a built A by `fold`. apply(c) is what A gives for c·W~', within the same
bounds.

Legend: B samples, C channels, H W size, K blocks, Q core side, d coefficients of a block, E either of the two, F
filters, O output positions of a block, N' = K·E.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mple.morph.arithmetic import Floats
from mple.morph.basis import Basis, require_fitting
from mple.morph.convolution import convolve
from mple.morph.cores import draw_core
from mple.morph.keys import MorphKey
from mple.morph.scheme import Cores, ImageShape, Layout, MorphGeometry, MorphScheme, expected_weight_shape

_CHUNK_VALUES = 1024 * 1024
"""Values of one convolution's result or scratch, 8 MiB; larger ones are handed back to the system and faulted in anew,
which takes longer than the convolution."""
_FOLDED_OUTPUTS = 4096


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
    """unrolled: (N', F·H·W); tiled, identical: (E, F, s+p-1, s+p-1); tiled, distinct: (K, E, F·(s+p-1)²)."""
    coefficients: int | None = None
    """d, of a layer for coefficients; None for morphed values."""
    coding: bytes | None = None
    """How the codes of the coefficients are read, where that travels with the layer."""

    def __post_init__(self) -> None:
        expected = expected_weight_shape(self.scheme, self.image_shape, self.filters, self.kernel, self.coefficients)
        if self.weight.shape != expected:
            raise ValueError(f"layer weight of shape {self.weight.shape}, needs {expected}")

    @property
    def values(self) -> int:
        """E, values of a block that the layer takes."""
        return (
            MorphGeometry.of(self.scheme, self.image_shape).core_side
            if self.coefficients is None
            else self.coefficients
        )

    def apply(self, t_BKE: Floats) -> Floats:
        """Features f_BFHW of morphed blocks, or of their coefficients: what the layer means; `mple.model.first_layer`
        has what trains fast.

        Raises ValueError: the blocks have another shape than the scheme gives.
        """
        geometry, values = MorphGeometry.of(self.scheme, self.image_shape), self.values
        if t_BKE.shape[1:] != (geometry.blocks, values):
            raise ValueError(f"blocks of shape {t_BKE.shape[1:]}, needs {(geometry.blocks, values)}")
        height, width = self.image_shape.height, self.image_shape.width
        if self.scheme.layout is Layout.UNROLLED:
            return (t_BKE.reshape(len(t_BKE), -1) @ self.weight).reshape(len(t_BKE), self.filters, height, width)
        reach, tile, halo = self.scheme.tile + self.kernel - 1, self.scheme.tile, self.kernel // 2
        weight_KEO = self.weight.reshape(-1, values, self.filters * reach * reach)
        pieces_KBO = t_BKE.swapaxes(0, 1) @ weight_KEO
        pieces = pieces_KBO.reshape(geometry.rows, geometry.columns, len(t_BKE), self.filters, reach, reach)
        sides = geometry.padded_height + self.kernel - 1, geometry.padded_width + self.kernel - 1
        whole = np.zeros((len(t_BKE), self.filters, *sides), pieces.dtype)
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
    basis: Basis | None = None,
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
        basis: As the morpher's; its coding goes into the layer.
        dtype: Of the weight; sums are made in float64 whatever it is.

    Raises ValueError: the stem does not fit the image, the order is none of its filters, or the basis is of another
    scheme.
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
    require_fitting(basis, scheme, geometry)
    values = geometry.core_side if basis is None else basis.columns

    def rows(block: int) -> NDArray[np.float64]:
        core = draw_core(key, scheme, geometry.core_side, session=session, key_epoch=key_epoch, block=block)
        return core.inverse_QQ if basis is None else basis.synthesis(block if basis.cores > 1 else 0) @ core.inverse_QQ

    if scheme.layout is Layout.UNROLLED:
        if scheme.border > kernel // 2:
            raise ValueError(f"border = {scheme.border} is wider than half the kernel ({kernel // 2})")
        weight = _unrolled(scheme, image_shape, geometry, stem, rows, values, dtype)
    else:
        weight = _tiled(scheme, geometry, stem, rows, values, dtype)
    if basis is None:
        return AugmentedLayer(scheme, image_shape, kernel, filters, weight)
    return AugmentedLayer(scheme, image_shape, kernel, filters, weight, basis.columns, basis.coding)


def fold(layer: AugmentedLayer, basis: Basis) -> AugmentedLayer:
    """A' = W~'·A of a layer for morphed values, in its dtype, with the basis's coding; sums are made in float64.

    Raises ValueError: the layer is one for coefficients, or the basis is of another scheme.
    """
    if layer.coefficients is not None:
        raise ValueError("the layer is one for coefficients already")
    geometry = MorphGeometry.of(layer.scheme, layer.image_shape)
    require_fitting(basis, layer.scheme, geometry)
    shape = expected_weight_shape(layer.scheme, layer.image_shape, layer.filters, layer.kernel, basis.columns)
    count = geometry.blocks if layer.scheme.layout is Layout.UNROLLED else geometry.cores(layer.scheme)
    weight_KQO = layer.weight.reshape(count, geometry.core_side, -1)
    folded_KdO = np.empty((count, basis.columns, weight_KQO.shape[2]), layer.weight.dtype)
    for block in range(count):
        synthesis_dQ = basis.synthesis(block if basis.cores > 1 else 0)
        for low in range(0, weight_KQO.shape[2], _FOLDED_OUTPUTS):  # no float64 copy of a whole dense layer
            some = slice(low, low + _FOLDED_OUTPUTS)
            folded_KdO[block, :, some] = synthesis_dQ @ weight_KQO[block, :, some].astype(np.float64)
    return replace(layer, weight=folded_KdO.reshape(shape), coefficients=basis.columns, coding=basis.coding)


def _tiled(
    scheme: MorphScheme,
    geometry: MorphGeometry,
    stem: NDArray[np.float64],
    rows_of: Callable[[int], NDArray[np.float64]],
    values: int,
    dtype: DTypeLike,
) -> Floats:
    filters, channels, kernel, _ = stem.shape
    count, reach = geometry.cores(scheme), scheme.tile + kernel - 1
    weight = np.empty((count, values, filters, reach, reach), dtype)
    rows_at_once = _rows_at_once(stem, reach * reach)
    for block in range(count):
        images_ECss = rows_of(block).reshape(values, channels, scheme.tile, scheme.tile)
        for low in range(0, values, rows_at_once):
            some = slice(low, low + rows_at_once)
            weight[block, some] = convolve(images_ECss[some], stem, kernel - 1)
    return weight[0] if scheme.cores is Cores.IDENTICAL else weight.reshape(count, values, -1)


def _unrolled(
    scheme: MorphScheme,
    image: ImageShape,
    geometry: MorphGeometry,
    stem: NDArray[np.float64],
    rows_of: Callable[[int], NDArray[np.float64]],
    values: int,
    dtype: DTypeLike,
) -> Floats:
    filters, channels, kernel, _ = stem.shape
    side, length = geometry.core_side, geometry.morphed_elements
    padding = kernel // 2 - scheme.border
    weight = np.zeros((geometry.blocks * values, filters, image.height, image.width), dtype)
    all_rows = None
    for block in range(geometry.blocks):
        if all_rows is None or scheme.cores is Cores.DISTINCT:
            all_rows = rows_of(block)
        seen, top, bottom = _reach(geometry, channels, block * side, (block + 1) * side - 1)
        y_from, y_to = max(0, top + padding - kernel + 1), min(image.height, bottom + padding + 1)
        rows_at_once = _rows_at_once(stem, (y_to - y_from) * image.width)
        for low in range(0, values, rows_at_once):
            rows = all_rows[low : low + rows_at_once]
            flat = np.zeros((len(rows), length))
            flat[:, block * side : (block + 1) * side] = rows
            images = flat.reshape(-1, channels, geometry.padded_height, geometry.padded_width)[:, seen]
            around = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
            start = block * values + low
            features = convolve(around[:, :, y_from : y_to + kernel - 1], stem[:, seen], 0)
            weight[start : start + len(rows), :, y_from:y_to] = features
    return weight.reshape(len(weight), -1)


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
