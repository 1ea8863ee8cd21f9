"""Smooth blocks: what every basis keeps and what layers are reviewed by, whatever pictures a site has.

In tiles they are 1 and a slope along each axis, in each channel; convolving such an image gives one, but for borders,
which a tile's piece of (s+p-1)^2 outputs does not have. An unrolled image has borders: there they are 1, the cosine and
the sine of one period over the padded extent, and what is convolved vanishes towards the border (sin^2).

Legend: S functions or directions, Q core side, K blocks.
"""

import numpy as np
from numpy.typing import NDArray

from mple.morph.arithmetic import Floats
from mple.morph.scheme import Cores, ImageShape, Layout, MorphGeometry, MorphScheme

_NEXT_TO_NOTHING = 1e-3
"""Of the largest singular value: what is below says nothing to a review."""


def axis_functions(scheme: MorphScheme, extent: int) -> NDArray[np.float64]:
    """Functions of one axis, (S, extent)."""
    places = np.arange(extent) - (extent - 1) / 2
    if scheme.layout is Layout.TILED:
        return np.stack([np.ones(extent), places / max(1.0, places[-1])])
    turns = 2 * np.pi * places / (extent - 2 * scheme.border + 1)
    return np.stack([np.ones(extent), np.cos(turns), np.sin(turns)])


def axis_directions(scheme: MorphScheme, extent: int) -> NDArray[np.float64]:
    """An orthonormal basis of `axis_functions`, as columns (extent, S)."""
    return independent(axis_functions(scheme, extent))


def smooth_directions(scheme: MorphScheme, image: ImageShape, core: int) -> NDArray[np.float64]:
    """An orthonormal basis (Q, S) of the parts of smooth images that a core meets."""
    geometry = MorphGeometry.of(scheme, image)
    if scheme.layout is Layout.TILED:
        plane_SX = _products(axis_functions(scheme, scheme.tile), axis_functions(scheme, scheme.tile))
        return independent(np.kron(np.eye(image.channels), plane_SX))
    rows, columns = (axis_functions(scheme, side) for side in (geometry.padded_height, geometry.padded_width))
    images_SKQ = np.kron(np.eye(image.channels), _products(rows, columns)).reshape(
        -1, geometry.blocks, geometry.core_side
    )
    if scheme.cores is Cores.DISTINCT:
        return independent(images_SKQ[:, core])
    return independent(images_SKQ.reshape(-1, geometry.core_side))


def smooth_features(scheme: MorphScheme, image: ImageShape, kernel: int) -> NDArray[np.float64]:
    """Planes of outputs that every stem of this kernel side takes back to smooth images: (S, O) of a tile's piece, and
    of an unrolled image the one that vanishes towards the border."""
    if scheme.layout is Layout.TILED:
        functions = axis_functions(scheme, scheme.tile + kernel - 1)
        return np.asarray(_products(functions, functions))
    rows, columns = (np.sin(np.pi * np.arange(1, side + 1) / (side + 1)) ** 2 for side in (image.height, image.width))
    return np.outer(rows, columns).reshape(1, -1)


def independent(rows_SX: Floats) -> NDArray[np.float64]:
    """An orthonormal basis (X, S) of what rows span."""
    _, sizes, directions_SX = np.linalg.svd(rows_SX, full_matrices=False)
    return np.asarray(directions_SX[sizes > _NEXT_TO_NOTHING * sizes[0]].T)


def _products(rows_SY: Floats, columns_SX: Floats) -> Floats:
    """All products of a function of rows and one of columns, as planes (S', Y·X)."""
    return np.kron(rows_SY, columns_SX)
