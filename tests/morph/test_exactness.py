"""The guarantee of `mple.morph`: t·A = conv(x)·P up to rounding, whatever the layout, the cores, the kernel and size.

Bounds are relative to the features' range, which is what a network sees. Few filters, cores of some hundred values
and oblong images at 64 keep the whole grid below a minute and 1 GB; the product's sizes are in the single cases.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import DTypeLike

from mple.morph import PRESETS, Cores, Ensemble, ImageShape, MorphKey, MorphScheme
from tests.support.morph_cases import (
    KEY,
    OTHER_KEY,
    channel_order,
    images,
    layer,
    morpher,
    plain_features,
    stem,
    tiled,
    unrolled,
)

FLOAT32_BOUND, FLOAT64_BOUND = 1e-5, 1e-11
UNIFORM_BOUND = 1e-3
"""For uniform cores of side 64 to 256, whose condition number is 1e3 to 1e5; nothing is promised beyond that."""

KERNELS, CHANNELS, SIZES = (1, 3, 5, 7), (1, 3, 4), (28, 32, 33, 64)
BOUNDS = {"float32": FLOAT32_BOUND, "float64": FLOAT64_BOUND}
DTYPES = list(BOUNDS)
CORES = [Cores.IDENTICAL, Cores.DISTINCT]


def deviation(
    scheme: MorphScheme,
    shape: ImageShape,
    kernel: int,
    dtype: DTypeLike = np.float32,
    *,
    filters: int = 4,
    key: MorphKey = KEY,
) -> float:
    """Largest error of a feature, relative to the range of the features."""
    kernels = stem(filters, shape.channels, kernel)
    x = images(shape)
    made = layer(scheme, shape, kernels, key, dtype)
    found = made.apply(morpher(scheme, shape, key).morph(x.astype(dtype)))
    assert found.dtype == dtype
    expected = plain_features(x.astype(np.float64), kernels.astype(np.float64))[:, channel_order(filters)]
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.ptp(expected))


EVERY_PAIR = [
    (cores, kernel, channels, size)
    for cores, kernel, channels, size in itertools.product(CORES, KERNELS, CHANNELS, SIZES)
    if (KERNELS.index(kernel) + SIZES.index(size)) % len(CHANNELS) == CHANNELS.index(channels)
]
"""For both kinds of cores every kernel with every size, the channels in turn."""


def extent(channels: int, size: int, widest: int) -> ImageShape:
    """A square image, cut to `widest` columns at 64."""
    return ImageShape(channels=channels, height=size, width=size if size < 64 else widest)


@pytest.mark.parametrize(("cores", "kernel", "channels", "size"), EVERY_PAIR)
def test_tiled(cores: Cores, kernel: int, channels: int, size: int) -> None:
    shape = extent(channels, size, 64 if cores is Cores.IDENTICAL else 24)
    assert deviation(tiled(cores), shape, kernel) <= FLOAT32_BOUND


@pytest.mark.parametrize(("cores", "kernel", "channels", "size"), EVERY_PAIR)
def test_tiled_in_float64(cores: Cores, kernel: int, channels: int, size: int) -> None:
    shape = extent(channels, size, 64 if cores is Cores.IDENTICAL else 24)
    assert deviation(tiled(cores), shape, kernel, np.float64) <= FLOAT64_BOUND


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cores", "kernel", "channels", "size"), EVERY_PAIR)
def test_unrolled(cores: Cores, kernel: int, channels: int, size: int, dtype: str) -> None:
    """Cores that begin and end at rows of the image, so that the kernel reaches across most of their borders."""
    kappa = channels * size // {28: 7, 32: 8, 33: 11, 64: 16}[size]
    shape = extent(channels, size, 12)
    assert deviation(unrolled(cores, kappa), shape, kernel, dtype, filters=2) <= BOUNDS[dtype]


@pytest.mark.parametrize(("kernel", "size"), [(3, 28), (7, 28), (5, 32), (3, 33)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_core_for_the_whole_image(kernel: int, size: int, dtype: str) -> None:
    shape = ImageShape(channels=1, height=size, width=size)
    assert deviation(PRESETS["paper"], shape, kernel, dtype) <= BOUNDS[dtype]


def test_one_core_for_a_cifar_image() -> None:
    assert deviation(PRESETS["paper"], ImageShape(channels=3, height=32, width=32), 3) <= FLOAT32_BOUND


@pytest.mark.parametrize("kernel", [3, 7])
def test_unrolled_64_by_64(kernel: int) -> None:
    shape = ImageShape(channels=1, height=64, width=64)
    assert deviation(unrolled(Cores.DISTINCT, 16), shape, kernel, filters=2) <= FLOAT32_BOUND


@pytest.mark.parametrize(("border", "kernel"), [(1, 3), (1, 7), (2, 5), (3, 7)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unrolled_with_a_border(border: int, kernel: int, dtype: str) -> None:
    shape = ImageShape(channels=3, height=14, width=18)
    assert deviation(unrolled(Cores.DISTINCT, 2, border), shape, kernel, dtype) <= BOUNDS[dtype]


@pytest.mark.parametrize("tile", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("cores", CORES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 20), (21, 13)])
def test_tiles_that_do_not_divide_an_oblong_image(tile: int, cores: Cores, shape: tuple[int, int]) -> None:
    height, width = shape
    image = ImageShape(channels=3, height=height, width=width)
    assert deviation(tiled(cores, tile), image, 3) <= FLOAT32_BOUND


@pytest.mark.parametrize("cores", CORES)
def test_sixty_four_filters_and_another_key(cores: Cores) -> None:
    shape = ImageShape(channels=3, height=32, width=32)
    assert deviation(tiled(cores), shape, 3, filters=64, key=OTHER_KEY) <= FLOAT32_BOUND


@pytest.mark.parametrize(
    "scheme",
    [
        pytest.param(unrolled(Cores.IDENTICAL, 12, 1, Ensemble.UNIFORM), id="mole, 12 cores"),
        pytest.param(tiled(Cores.IDENTICAL, 8, Ensemble.UNIFORM), id="tiled"),
        pytest.param(tiled(Cores.DISTINCT, 8, Ensemble.UNIFORM), id="tiled, distinct"),
    ],
)
def test_uniform_cores_are_less_exact_but_work(scheme: MorphScheme) -> None:
    shape = ImageShape(channels=3, height=16, width=16)
    assert deviation(scheme, shape, 3) <= UNIFORM_BOUND


SCHEMES = [
    pytest.param(unrolled(Cores.DISTINCT), id="unrolled"),
    pytest.param(unrolled(Cores.IDENTICAL, 6), id="unrolled, one core 6 times"),
    pytest.param(unrolled(Cores.DISTINCT, 2, 1), id="unrolled, 2 cores and a border"),
    pytest.param(tiled(Cores.IDENTICAL), id="tiled"),
    pytest.param(tiled(Cores.DISTINCT, 5), id="tiled, distinct, padded"),
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_round_trip(scheme: MorphScheme) -> None:
    shape = ImageShape(channels=3, height=18, width=20)
    for dtype, bound in ((np.float32, 1e-5), (np.float64, 1e-12)):
        x = images(shape, 5, dtype)
        sites = morpher(scheme, shape)
        back = sites.unmorph(sites.morph(x))
        assert back.dtype == dtype
        np.testing.assert_allclose(back, x, rtol=0, atol=bound)


def test_round_trip_with_uniform_cores() -> None:
    shape = ImageShape(channels=3, height=18, width=20)
    sites = morpher(unrolled(Cores.IDENTICAL, 10, 1, Ensemble.UNIFORM), shape)
    x = images(shape)
    np.testing.assert_allclose(sites.unmorph(sites.morph(x)), x, rtol=0, atol=UNIFORM_BOUND)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_inner_products_of_images_are_kept(scheme: MorphScheme) -> None:
    shape = ImageShape(channels=3, height=18, width=20)
    x = images(shape, 4, np.float64)
    t, flat = morpher(scheme, shape).morph(x).reshape(4, -1), x.reshape(4, -1)
    np.testing.assert_allclose(t @ t.T, flat @ flat.T, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_layer_of_another_key_gives_no_features(scheme: MorphScheme) -> None:
    shape = ImageShape(channels=3, height=18, width=20)
    kernels = stem(4, 3, 3)
    x = images(shape)
    found = layer(scheme, shape, kernels, OTHER_KEY).apply(morpher(scheme, shape).morph(x))
    plain = plain_features(x, kernels)[:, channel_order(4)]
    assert np.linalg.norm(found - plain) / np.linalg.norm(plain) > 0.5


def test_wrong_images_stems_orders_and_blocks_are_refused() -> None:
    shape = ImageShape(channels=3, height=16, width=16)
    compact, order = PRESETS["compact"], channel_order(4)
    with pytest.raises(ValueError, match=r"images of shape \(1, 16, 16\).*\(3, 16, 16\)"):
        morpher(compact, shape).morph(np.zeros((2, 1, 16, 16)))
    with pytest.raises(ValueError, match=r"images of 3 channels; needs .* odd p"):
        layer(compact, shape, np.zeros((4, 1, 3, 3)))
    with pytest.raises(ValueError, match="odd p"):
        layer(compact, shape, np.zeros((4, 3, 2, 2)))
    with pytest.raises(ValueError, match="channel order of 4 for 5 filters"):
        layer(compact, shape, np.zeros((5, 3, 3, 3)), order=order)
    with pytest.raises(ValueError, match="no permutation"):
        layer(compact, shape, np.zeros((4, 3, 3, 3)), order=order * 0)
    with pytest.raises(ValueError, match="border = 2 is wider than half the kernel"):
        layer(unrolled(Cores.DISTINCT, 1, 2), shape, np.zeros((4, 3, 3, 3)))
    made = layer(compact, shape, stem(4, 3, 3))
    with pytest.raises(ValueError, match=r"blocks of shape \(5, 192\), needs \(4, 192\)"):
        made.apply(np.zeros((2, 5, 192)))
