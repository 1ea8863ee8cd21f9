"""What the tests of morphing share: schemes by name, keys, images and stems drawn from fixed seeds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from mple.morph import Cores, Ensemble, ImageShape, Layout, MorphKey, MorphScheme, draw_order
from mple.morph.arithmetic import Floats
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.morpher import Morpher

KEY = MorphKey(bytes(range(32)))
OTHER_KEY = MorphKey(bytes(range(32, 64)))
SESSION = b"a session"


def unrolled(cores: Cores, kappa: int = 1, border: int = 0, ensemble: Ensemble = Ensemble.ORTHOGONAL) -> MorphScheme:
    return MorphScheme(layout=Layout.UNROLLED, cores=cores, ensemble=ensemble, kappa=kappa, border=border)


def tiled(cores: Cores, tile: int = 8, ensemble: Ensemble = Ensemble.ORTHOGONAL) -> MorphScheme:
    return MorphScheme(layout=Layout.TILED, cores=cores, ensemble=ensemble, tile=tile)


def images(shape: ImageShape, count: int = 2, dtype: DTypeLike = np.float32) -> Floats:
    """Images uniform on [0, 1), as pixels are."""
    size = (count, shape.channels, shape.height, shape.width)
    return np.random.default_rng(7).random(size).astype(dtype)


def stem(filters: int, channels: int, kernel: int, seed: int = 11) -> NDArray[np.float32]:
    """Kernels with the variance that a network starts from."""
    drawn = np.random.default_rng(seed).normal(size=(filters, channels, kernel, kernel))
    return (drawn * (2 / (channels * kernel**2)) ** 0.5).astype(np.float32)


def plain_features(x_BCHW: Floats, kernels_FCpp: Floats) -> Floats:
    """The first convolution by torch, which morphing is compared with."""
    kernels = torch.from_numpy(np.ascontiguousarray(kernels_FCpp))
    padding = kernels.shape[2] // 2
    return torch.nn.functional.conv2d(torch.from_numpy(x_BCHW), kernels, padding=padding).numpy()


def channel_order(filters: int) -> NDArray[np.int64]:
    return draw_order(b"the consortium's secret", "channels", filters)


def morpher(scheme: MorphScheme, shape: ImageShape, key: MorphKey = KEY) -> Morpher:
    return Morpher(scheme, shape, key, session=SESSION, key_epoch=1)


def layer(
    scheme: MorphScheme,
    shape: ImageShape,
    stem_FCpp: Floats,
    key: MorphKey = KEY,
    dtype: DTypeLike = np.float32,
    order: NDArray[np.int64] | None = None,
) -> AugmentedLayer:
    return build_augmented_layer(
        scheme,
        shape,
        stem_FCpp,
        key,
        channel_order(len(stem_FCpp)) if order is None else order,
        session=SESSION,
        key_epoch=1,
        dtype=dtype,
    )
