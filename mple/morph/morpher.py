"""Morphing images with a site's key, and undoing it.

Legend: B samples, C channels, H W size, K blocks, Q core side, d coefficients of a block, E either of the two; a tiled
block's values run channel, row, column.
"""

from collections.abc import Sequence

import numpy as np

from mple.morph.arithmetic import Floats
from mple.morph.basis import Basis, require_fitting
from mple.morph.cores import draw_core
from mple.morph.keys import MorphKey
from mple.morph.scheme import Ensemble, ImageShape, Layout, MorphGeometry, MorphScheme

ROWS = 96
"""Products are made of so many rows each, zeros below: libraries choose the order of sums by a product's shape. Fewer
make products slow, more are mostly zeros where each block of a message's pictures has a core of its own. So many
pictures at a time leave no rows over, and little memory is taken."""


class Morpher:
    """t = x·M for one key, session and key epoch; with a basis its coefficients c = t·W~·inv(W~'·W~), as one
    product.

    Guarantees: `unmorph(morph(x))` equals x within 1e-5 of its range in float32 for orthogonal cores, and inner
    products of images are kept for them. For uniform cores the product is computed in float64 and rounded once. In
    float32 an image's values are the same, bit for bit, whatever it is morphed with (one machine, equal threads). With
    a basis of d = Q columns `unmorph` is as exact; with fewer it gives the part of the image that the columns span.
    Not promised: secrecy against whoever knows pairs of images and morphed images, or the augmented layer.
    """

    def __init__(
        self,
        scheme: MorphScheme,
        image_shape: ImageShape,
        key: MorphKey,
        *,
        session: bytes,
        key_epoch: int,
        basis: Basis | None = None,
    ) -> None:
        """Draw a key's cores.

        Args:
            scheme: Layout, cores and ensemble.
            image_shape: Of the images to be morphed.
            key: The site's key.
            session: The run's.
            key_epoch: The key's.
            basis: The key's, where coefficients leave instead of morphed values.

        Raises ValueError: the basis is not of this scheme and shape.
        """
        self._scheme, self._image = scheme, image_shape
        self.geometry = MorphGeometry.of(scheme, image_shape)
        require_fitting(basis, scheme, self.geometry)
        self._cores, self._inverses = [], []
        for number in range(self.geometry.cores(scheme)):
            core = draw_core(key, scheme, self.geometry.core_side, session=session, key_epoch=key_epoch, block=number)
            self._cores.append(core.core_QQ if basis is None else core.core_QQ @ basis.analysis(number))
            self._inverses.append(core.inverse_QQ if basis is None else basis.synthesis(number) @ core.inverse_QQ)
        self._cores32 = [core_QE.astype(np.float32) for core_QE in self._cores]

    def morph(self, x_BCHW: Floats) -> Floats:
        """Morphed blocks t_BKQ, or with a basis their coefficients c_BKd, in the images' dtype: float32 or float64.

        Raises ValueError: the images have another shape than the one this morpher was made for.
        """
        image = self._image
        if x_BCHW.shape[1:] != (image.channels, image.height, image.width):
            raise ValueError(
                f"images of shape {x_BCHW.shape[1:]}; this key morphs {(image.channels, image.height, image.width)}"
            )
        x_BKQ = to_blocks(x_BCHW, self._scheme, self.geometry)
        if x_BCHW.dtype == np.float64:
            return _times(x_BKQ, self._cores)
        if self._scheme.ensemble is Ensemble.UNIFORM:
            return _times(x_BKQ.astype(np.float64), self._cores).astype(np.float32)
        return _times(x_BKQ, self._cores32)

    def unmorph(self, t_BKE: Floats) -> Floats:
        """The images x_BCHW behind what `morph` gave, computed in float64, in the dtype of `t_BKE`."""
        x_BKQ = _times(t_BKE.astype(np.float64), self._inverses)
        return from_blocks(x_BKQ, self._scheme, self.geometry, self._image).astype(t_BKE.dtype)


def to_blocks(x_BCHW: Floats, scheme: MorphScheme, geometry: MorphGeometry) -> Floats:
    """Pad images and cut them into blocks x_BKQ."""
    batch, channels, height, width = x_BCHW.shape
    if scheme.layout is Layout.UNROLLED:
        border = (scheme.border, scheme.border)
        return np.pad(x_BCHW, ((0, 0), (0, 0), border, border)).reshape(batch, geometry.blocks, geometry.core_side)
    down, right = geometry.padded_height - height, geometry.padded_width - width
    padded = np.pad(x_BCHW, ((0, 0), (0, 0), (0, down), (0, right))) if down or right else x_BCHW
    tiles = padded.reshape(batch, channels, geometry.rows, scheme.tile, geometry.columns, scheme.tile)
    return tiles.transpose(0, 2, 4, 1, 3, 5).reshape(batch, geometry.blocks, geometry.core_side)


def from_blocks(x_BKQ: Floats, scheme: MorphScheme, geometry: MorphGeometry, image: ImageShape) -> Floats:
    """Put blocks back together and crop; undoes `to_blocks`."""
    batch, side, tile = x_BKQ.shape[0], scheme.border, scheme.tile
    if scheme.layout is Layout.UNROLLED:
        whole = x_BKQ.reshape(batch, image.channels, geometry.padded_height, geometry.padded_width)
        return whole[:, :, side : side + image.height, side : side + image.width]
    tiles = x_BKQ.reshape(batch, geometry.rows, geometry.columns, image.channels, tile, tile)
    whole = tiles.transpose(0, 3, 1, 4, 2, 5).reshape(
        batch, image.channels, geometry.padded_height, geometry.padded_width
    )
    return whole[:, :, : image.height, : image.width]


def _times(x_BKQ: Floats, cores: Sequence[Floats]) -> Floats:
    samples, blocks, side = x_BKQ.shape
    if len(cores) == 1:
        return _product(x_BKQ.reshape(-1, side), cores[0]).reshape(samples, blocks, cores[0].shape[1])
    t_BKE = np.empty((samples, blocks, cores[0].shape[1]), x_BKQ.dtype)
    for block, core_QE in enumerate(cores):
        t_BKE[:, block] = _product(x_BKQ[:, block], core_QE)
    return t_BKE


def _product(x_RQ: Floats, core_QE: Floats) -> Floats:
    """x·M, some rows at a time. Each product has the same shape, so that a row's does not depend on the others."""
    t_RE = np.empty((-(-len(x_RQ) // ROWS) * ROWS, core_QE.shape[1]), x_RQ.dtype)
    for low in range(0, len(t_RE), ROWS):
        some_RQ = x_RQ[low : low + ROWS]
        if len(some_RQ) < ROWS:
            some_RQ = np.pad(some_RQ, ((0, ROWS - len(some_RQ)), (0, 0)))
        np.matmul(some_RQ, core_QE, out=t_RE[low : low + ROWS])
    return t_RE[: len(x_RQ)]
