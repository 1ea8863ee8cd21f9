"""Morphing images with a site's key, and undoing it.

Legend: B samples, C channels, H W size, K blocks, Q core side; a tiled block's values run channel, row, column.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mple.morph.cores import draw_core
from mple.morph.keys import MorphKey
from mple.morph.scheme import Cores, Ensemble, ImageShape, Layout, MorphGeometry, MorphScheme

_ROWS = 16
"""Products are made of multiples of so many rows: with fewer, their sums are made in another order."""


class Morpher:
    """t = x·M for one key, session and key epoch.

    Guarantees: `unmorph(morph(x))` equals x within 1e-5 of its range in float32 for orthogonal cores, and inner
    products of images are kept for them. For uniform cores the product is computed in float64 and rounded once. In
    float32 an image's values are the same, bit for bit, whatever it is morphed with (one machine, equal threads).
    Not promised: secrecy against whoever knows pairs of images and morphed images, or the augmented layer.
    """

    def __init__(
        self, scheme: MorphScheme, image_shape: ImageShape, key: MorphKey, *, session: bytes, key_epoch: int
    ) -> None:
        self._scheme, self._image = scheme, image_shape
        self.geometry = MorphGeometry.of(scheme, image_shape)
        count = 1 if scheme.cores is Cores.IDENTICAL else self.geometry.blocks
        cores = [
            draw_core(key, scheme, self.geometry.core_side, session=session, key_epoch=key_epoch, block=block)
            for block in range(count)
        ]
        self._core_KQQ = torch.stack([core.core_QQ for core in cores])
        self._inverse_KQQ = torch.stack([core.inverse_QQ for core in cores])
        self._core32_KQQ = self._core_KQQ.float()

    def morph(self, x_BCHW: Tensor) -> Tensor:
        """Morphed blocks t_BKQ, float32 for float32 images and float64 for float64 ones.

        Raises ValueError: the images have another shape than the one this morpher was made for.
        """
        image = self._image
        if x_BCHW.shape[1:] != (image.channels, image.height, image.width):
            raise ValueError(
                f"images of shape {tuple(x_BCHW.shape[1:])}; this key morphs "
                f"{(image.channels, image.height, image.width)}"
            )
        x_BKQ = to_blocks(x_BCHW, self._scheme, self.geometry)
        if x_BCHW.dtype == torch.float64:
            return _times(x_BKQ, self._core_KQQ)
        if self._scheme.ensemble is Ensemble.UNIFORM:
            return _times(x_BKQ.double(), self._core_KQQ).float()
        return _times(x_BKQ, self._core32_KQQ)

    def unmorph(self, t_BKQ: Tensor) -> Tensor:
        """The images x_BCHW behind morphed blocks, computed in float64, in the dtype of `t_BKQ`."""
        x_BKQ = _times(t_BKQ.double(), self._inverse_KQQ)
        return from_blocks(x_BKQ, self._scheme, self.geometry, self._image).to(t_BKQ.dtype)


def to_blocks(x_BCHW: Tensor, scheme: MorphScheme, geometry: MorphGeometry) -> Tensor:
    """Pad images and cut them into blocks x_BKQ."""
    batch, channels, height, width = x_BCHW.shape
    if scheme.layout is Layout.UNROLLED:
        return functional.pad(x_BCHW, (scheme.border,) * 4).reshape(batch, geometry.blocks, geometry.core_side)
    down, right = geometry.padded_height - height, geometry.padded_width - width
    padded = functional.pad(x_BCHW, (0, right, 0, down)) if down or right else x_BCHW
    tiles = padded.reshape(batch, channels, geometry.rows, scheme.tile, geometry.columns, scheme.tile)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(batch, geometry.blocks, geometry.core_side)


def from_blocks(x_BKQ: Tensor, scheme: MorphScheme, geometry: MorphGeometry, image: ImageShape) -> Tensor:
    """Put blocks back together and crop; undoes `to_blocks`."""
    batch, side, tile = x_BKQ.shape[0], scheme.border, scheme.tile
    if scheme.layout is Layout.UNROLLED:
        whole = x_BKQ.reshape(batch, image.channels, geometry.padded_height, geometry.padded_width)
        return whole[:, :, side : side + image.height, side : side + image.width]
    tiles = x_BKQ.reshape(batch, geometry.rows, geometry.columns, image.channels, tile, tile)
    whole = tiles.permute(0, 3, 1, 4, 2, 5).reshape(
        batch, image.channels, geometry.padded_height, geometry.padded_width
    )
    return whole[:, :, : image.height, : image.width]


def _times(x_BKQ: Tensor, core_KQQ: Tensor) -> Tensor:
    if len(core_KQQ) == 1:
        flat = x_BKQ.flatten(0, 1)
        return (_filled_up(flat) @ core_KQQ[0])[: len(flat)].view(x_BKQ.shape)
    return torch.bmm(_filled_up(x_BKQ).transpose(0, 1), core_KQQ).transpose(0, 1)[: len(x_BKQ)].contiguous()


def _filled_up(x: Tensor) -> Tensor:
    """With rows of zeros behind, up to a multiple of `_ROWS`."""
    missing = -len(x) % _ROWS
    return functional.pad(x, (0,) * (2 * x.ndim - 1) + (missing,)) if missing else x
