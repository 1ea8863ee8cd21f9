"""What can be checked of a layer without its key: shape, finiteness, norm, that it comes from the stem, and agreement
with other sites' layers.

For orthogonal keys A = M⁻¹·C_r·P has the Frobenius norm of C_r, and AᵀA = Pᵀ·C_rᵀ·C_r·P does not depend on the key:
Aᵀ(A·v) is equal at all honest sites for any v. A wrong stem or channel order shows, and so does a layer that no key
makes, without any key being known. For uniform cores neither holds, and only shape and finiteness are checked.

A layer for coefficients, A' = W~'·A, is cut and rounded, so that A'ᵀA' depends on its site's pictures. But every basis
keeps the smooth directions of `mple.morph.smooth`, and v that a stem takes back to a smooth image gives

    A'ᵀ(A'·v) = Pᵀ·C_rᵀ·M⁻ᵀ·W~·W~'·M⁻¹·C_r·P·v = Pᵀ·C_rᵀ·C_r·P·v

but for what the basis was rounded to: some 1e-2. So such layers are probed with smooth v alone, and compared channel by
channel. What their rows for fine detail hold is bounded in norm and not seen otherwise.

Not promised: that a layer fits the key its site morphs with; a site that lies about that harms its own samples only
in the features, which key-blind checks can't see.

Legend: Q core side, K blocks, F filters, O output positions of a block, N' = K·Q.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mple.morph.arithmetic import Floats
from mple.morph.augmented import AugmentedLayer
from mple.morph.convolution import convolve, convolve_back
from mple.morph.keys import gaussians
from mple.morph.scheme import Cores, Ensemble, ImageShape, Layout, MorphScheme
from mple.morph.smooth import smooth_features

_ROWS_AT_ONCE = 256
NORM_TOLERANCE = {"f32": 1e-4, "f16": 1e-4, "int8": 5e-4}
"""Largest relative deviation of a layer's Frobenius norm, by the layer's numbers; honest float32 layers stay below
1e-6, 8-bit ones of some 50,000 weights near 1e-4."""
CONSISTENCY_TOLERANCE = {"f32": 1e-5, "f16": 1.5e-3, "int8": 4e-2}
"""Largest relative deviation between two sites' responses, by the layers' numbers; honest float32 layers stay near
5e-8, binary16 ones near 4e-4 and 8-bit ones near 1.3e-2. Another stem or order gives about 1, and one value with a
wrong sign 5e-6 to 2e-2, less in a larger layer: it may stay below the rounding of binary16 or of 8 bits."""


SMOOTH_STEM_TOLERANCE = 0.18
SMOOTH_TOLERANCE = 0.7
"""As `CONSISTENCY_TOLERANCE`, of layers for coefficients in any numbers: from the stem, and between two sites in the
channel that deviates most. Honest ones of eight keys and three presets stayed below 0.1 and 0.25, for bases are rounded
to 8 bits and rows by what they meet; another stem or order gives about 1 and more."""
_SMOOTH_NORM_TOLERANCE = 2e-2
_QUIET = 0.5
"""Of the channels' root mean square: a channel that answers less to smooth images is compared as if it answered so."""


def expected_frobenius(scheme: MorphScheme, image_shape: ImageShape, stem_FCpp: Floats) -> float:
    """Frobenius norm that the weight of an honest layer with orthogonal cores has."""
    energy_pp = np.square(stem_FCpp.astype(np.float64)).sum((0, 1))
    kernel = energy_pp.shape[0]
    if scheme.layout is Layout.TILED:
        repeats = 1
        if scheme.cores is Cores.DISTINCT:
            repeats = -(-image_shape.height // scheme.tile) * -(-image_shape.width // scheme.tile)
        return math.sqrt(float(energy_pp.sum()) * scheme.tile**2 * repeats)
    reach = kernel // 2
    total = 0.0
    for i in range(kernel):
        for j in range(kernel):
            down = _overlap(image_shape.height, i - reach, scheme.border)
            right = _overlap(image_shape.width, j - reach, scheme.border)
            total += float(energy_pp[i, j]) * down * right
    return math.sqrt(total)


def layer_faults(layer: AugmentedLayer, stem_FCpp: Floats, numbers: str = "f32") -> list[str]:
    """What is wrong with a layer that came in these numbers, in words; empty when nothing is."""
    if not np.isfinite(layer.weight).all():
        return ["the layer holds NaN or infinity"]
    if layer.scheme.ensemble is not Ensemble.ORTHOGONAL:
        return []
    norm = math.sqrt(math.fsum(float(np.square(rows).sum()) for rows in _pieces(_flat(layer.weight))))
    expected = expected_frobenius(layer.scheme, layer.image_shape, stem_FCpp)
    if layer.coefficients is not None:
        if not 0 < norm <= (1 + _SMOOTH_NORM_TOLERANCE) * expected:
            return [f"the layer's norm is {norm:.8g}, at most {expected:.8g} comes of the stem"]
        return []
    if abs(norm - expected) > NORM_TOLERANCE[numbers] * expected:
        return [f"the layer's norm is {norm:.8g}, the stem gives {expected:.8g}"]
    return []


def consistency_response(layer: AugmentedLayer, probe: bytes) -> NDArray[np.float64]:
    """Aᵀ(A·v) for a vector v drawn from `probe`, float64; equal at all honest sites with orthogonal cores. Tiles with
    distinct cores answer block by block (K, O); the other layouts answer with one vector (1, O). Of a layer for
    coefficients v is smooth, and the responses are equal to `SMOOTH_TOLERANCE`."""
    blocks_KQO = _blocks(layer)
    if layer.coefficients is None:
        v_O = gaussians(probe, b"consistency", blocks_KQO[0].shape[1])
    else:
        planes_SO = smooth_features(layer.scheme, layer.image_shape, layer.kernel)
        drawn = gaussians(probe, b"consistency", layer.filters * len(planes_SO))
        v_O = (drawn.reshape(layer.filters, -1) @ planes_SO).ravel()
    return np.stack([_response(block_QO, v_O) for block_QO in blocks_KQO])


def layers_deviation(layer: AugmentedLayer, first: Floats, second: Floats) -> float:
    """Relative distance of two layers' `consistency_response`, the second that of `layer`; of layers for coefficients
    that of the channel in which it is largest.

    Raises ValueError: as `response_deviation`.
    """
    deviation = response_deviation(first, second)
    if layer.coefficients is None:
        return deviation
    ours, theirs = (one.reshape(len(one), layer.filters, -1) for one in (second, first))
    size_KF, apart_KF = np.linalg.norm(theirs, axis=2), np.linalg.norm(ours - theirs, axis=2)
    least_K1 = _QUIET * np.sqrt(np.square(size_KF).mean(1, keepdims=True))
    return float((apart_KF / np.maximum(size_KF, np.maximum(least_K1, 1e-300))).max())


def stem_deviation(layer: AugmentedLayer, stem_FCpp: Floats, probe: bytes) -> float:
    """Relative distance of a layer with orthogonal cores from what the stem gives under any key and any channel order.

    Take v that repeats one vector u in every channel. The order P only exchanges channels, so P·v = v, and with
    M⁻ᵀ·M⁻¹ = 1

        Aᵀ(A·v) = Pᵀ·C_rᵀ·M⁻ᵀ·M⁻¹·C_r·P·v = Pᵀ·w,   w = C_rᵀ(C_r·v),

    where w needs neither key nor order. Pᵀ·w holds at each position the same F values as w, in another order: sorted
    over the channels both are equal. Sorting adds no error, for of all orders the sorted one brings two lists nearest
    to each other (rearrangement inequality).

    Guarantees: of the size of float32 rounding for an honest layer; 0 or more, NaN for none that is finite. A layer of
    another stem, of filters that were mixed or scaled, or of a matrix that is no orthogonal one, shows for all u but a
    null set; u is drawn from `probe`, which its maker must not know. Not seen: another channel order, also one that
    changes from position to position. Agreement with other sites' layers shows that. Of a layer for coefficients u
    is smooth, the deviation is that of its basis's rounding, and rows for fine detail are not seen.

    Raises ValueError: the layer's shape is not one that this stem gives.
    """
    filters, _, kernel, _ = stem_FCpp.shape
    stem, scheme, image = stem_FCpp.astype(np.float64), layer.scheme, layer.image_shape
    if scheme.layout is Layout.UNROLLED:
        extent, padding = (image.height, image.width), kernel // 2 - scheme.border
    else:
        extent, padding = (scheme.tile + kernel - 1,) * 2, kernel - 1
    if layer.coefficients is None:
        u_HW = gaussians(probe, b"stem", extent[0] * extent[1]).reshape(extent)
    else:
        planes_SO = smooth_features(scheme, image, kernel)
        u_HW = (gaussians(probe, b"stem", len(planes_SO)) @ planes_SO).reshape(extent)
    v_FHW = np.tile(u_HW, (filters, 1, 1))
    seen = convolve_back(v_FHW[None], stem, padding)
    expected_FO = np.sort(convolve(seen, stem, padding)[0].reshape(filters, -1), axis=0)
    v_O = v_FHW.ravel()
    found = [np.sort(_response(block_QO, v_O).reshape(filters, -1), axis=0) for block_QO in _blocks(layer)]
    return max(response_deviation(expected_FO, found_FO) for found_FO in found)


def response_deviation(first: Floats, second: Floats) -> float:
    """Relative distance of two layers' responses to one probe.

    Raises ValueError: they are of different shapes, hence of different schemes.
    """
    if first.shape != second.shape:
        raise ValueError(f"responses of shapes {first.shape} and {second.shape} can't be compared")
    return float(np.linalg.norm(first - second)) / max(float(np.linalg.norm(first)), 1e-300)


def _response(weight_NO: Floats, v_O: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros_like(v_O)
    with np.errstate(invalid="ignore"):  # what is not finite gives NaN
        for rows in _pieces(weight_NO):
            total += rows.T @ (rows @ v_O)
    return total


def _blocks(layer: AugmentedLayer) -> Floats:
    """The weight by what is probed alone: each tile with a core of its own, else all rows."""
    distinct_tiles = layer.scheme.layout is Layout.TILED and layer.scheme.cores is Cores.DISTINCT
    return layer.weight if distinct_tiles else _flat(layer.weight)[None]


def _flat(weight: Floats) -> Floats:
    return weight.reshape(len(weight), -1)


def _pieces(weight_NO: Floats) -> Iterator[NDArray[np.float64]]:
    """Some rows at a time, so that no whole layer is copied into float64."""
    for low in range(0, len(weight_NO), _ROWS_AT_ONCE):
        yield weight_NO[low : low + _ROWS_AT_ONCE].astype(np.float64)


def _overlap(extent: int, offset: int, border: int) -> int:
    """Output positions of one axis whose tap at `offset` falls onto the bordered image."""
    return sum(1 for position in range(extent) if -border <= position + offset < extent + border)
