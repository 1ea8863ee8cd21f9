"""The papers' definition, written out: dense M, C_r and P, index by index, in float64. Slow, small, and our measure.

It takes only the cores from the code under test. Where a value stands in its block, which pixel a convolution reads
and which channel goes where are counted here once more, by loops.

Legend: B samples, N' length of the padded, unrolled image, F filters, H W size, p kernel side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape, Layout, MorphKey, MorphScheme
from mple.morph.cores import draw_core

Matrix = NDArray[np.float64]


def unroll(scheme: MorphScheme, shape: ImageShape, x_BCHW: Matrix) -> Matrix:
    """The padded images (B, N'), channel after channel, row after row."""
    before, height, width = _padded(scheme, shape)
    unrolled = np.zeros((len(x_BCHW), shape.channels * height * width))
    for channel in range(shape.channels):
        for y in range(shape.height):
            for x in range(shape.width):
                place = (channel * height + before + y) * width + before + x
                unrolled[:, place] = x_BCHW[:, channel, y, x]
    return unrolled


def morph_matrix(scheme: MorphScheme, shape: ImageShape, key: MorphKey, session: bytes, key_epoch: int) -> Matrix:
    """M (N', N'): from a place in the unrolled image to one in the morphed vector."""
    blocks = _blocks(scheme, shape)
    side = len(blocks[0])
    m = np.zeros((len(blocks) * side, len(blocks) * side))
    for number, places in enumerate(blocks):
        core = draw_core(key, scheme, side, session=session, key_epoch=key_epoch, block=number).core_QQ
        for i, place in enumerate(places):
            for j in range(side):
                m[place, number * side + j] = core[i, j]
    return m


def convolution_matrix(scheme: MorphScheme, shape: ImageShape, stem_FCpp: Matrix) -> Matrix:
    """C_r (N', FHW): what each pixel, of the padding too, adds to each feature."""
    filters, channels, kernel, _ = stem_FCpp.shape
    before, height, width = _padded(scheme, shape)
    c = np.zeros((channels * height * width, filters * shape.height * shape.width))
    for number, channel, i, j in np.ndindex(filters, channels, kernel, kernel):
        for y, x in np.ndindex(shape.height, shape.width):
            row, column = before + y + i - kernel // 2, before + x + j - kernel // 2
            if 0 <= row < height and 0 <= column < width:
                place = (channel * height + row) * width + column
                c[place, (number * shape.height + y) * shape.width + x] = stem_FCpp[number, channel, i, j]
    return c


def order_matrix(order: NDArray[np.int64], pixels: int) -> Matrix:
    """P (FHW, FHW): feature map `order[j]` of the stem becomes map j."""
    p = np.zeros((len(order) * pixels, len(order) * pixels))
    for new, old in enumerate(order.tolist()):
        for pixel in range(pixels):
            p[old * pixels + pixel, new * pixels + pixel] = 1.0
    return p


def _padded(scheme: MorphScheme, shape: ImageShape) -> tuple[int, int, int]:
    """Zeros before the first row and column; height and width with all zeros."""
    if scheme.layout is Layout.UNROLLED:
        return scheme.border, shape.height + 2 * scheme.border, shape.width + 2 * scheme.border
    height = width = 0
    while height < shape.height:
        height += scheme.tile
    while width < shape.width:
        width += scheme.tile
    return 0, height, width


def _blocks(scheme: MorphScheme, shape: ImageShape) -> list[list[int]]:
    """For each block the places of its values in the unrolled image."""
    _, height, width = _padded(scheme, shape)
    if scheme.layout is Layout.UNROLLED:
        side = shape.channels * height * width // scheme.kappa
        return [list(range(block * side, (block + 1) * side)) for block in range(scheme.kappa)]
    blocks = []
    for top in range(0, height, scheme.tile):
        for left in range(0, width, scheme.tile):
            block = []
            for channel in range(shape.channels):
                for row in range(top, top + scheme.tile):
                    for column in range(left, left + scheme.tile):
                        block.append((channel * height + row) * width + column)
            blocks.append(block)
    return blocks
