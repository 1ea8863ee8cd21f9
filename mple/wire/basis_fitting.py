"""A key's basis with the coding of its coefficients, fitted to a site's pictures. Pure.

Legend: N pictures, C channels, H W size, K blocks, Q core side, G cores, d coefficients of a block.
"""

from dataclasses import replace

import numpy as np

from mple.morph import Cores, ImageShape, MorphGeometry, MorphKey, MorphScheme
from mple.morph.arithmetic import Floats
from mple.morph.basis import Basis, fit_directions
from mple.morph.morpher import Morpher, to_blocks
from mple.wire.coding import Coding
from mple.wire.transform_codec import TransformCodec


def fit_basis(
    x_NCHW: Floats,
    scheme: MorphScheme,
    image: ImageShape,
    key: MorphKey,
    *,
    session: bytes,
    key_epoch: int,
    codec: TransformCodec,
) -> Basis:
    """Directions and coding of a key. Every third picture is for the coding alone: coefficients of the pictures that
    few directions were fitted to are too small.

    Args:
        x_NCHW: Pictures as they leave: normalised, with their noise.
        scheme: Layout and cores.
        image: Of the pictures.
        key: Whose cores the basis belongs to.
        session: The run's.
        key_epoch: The key's.
        codec: The plan's.

    Raises ValueError: there are no pictures; or as `mple.morph.basis.require_transformable`.
    """
    third_N = np.arange(len(x_NCHW)) % 3 == 2
    directions_N, coding_N = (~third_N, third_N) if third_N.any() else (~third_N, ~third_N)
    geometry = MorphGeometry.of(scheme, image)
    x_NKQ = to_blocks(x_NCHW[directions_N], scheme, geometry)
    basis = fit_directions(x_NKQ, scheme, image, key, session=session, key_epoch=key_epoch, step=codec.step)
    c_NKd = Morpher(scheme, image, key, session=session, key_epoch=key_epoch, basis=basis).morph(x_NCHW[coding_N])
    shared = scheme.cores is Cores.IDENTICAL
    c_GRd = [c_NKd.reshape(-1, basis.columns)] if shared else list(c_NKd.swapaxes(0, 1))
    coding = Coding.fit(c_GRd, codec.step, grid=(geometry.rows, geometry.columns))
    return replace(basis, coding=coding.to_bytes())
