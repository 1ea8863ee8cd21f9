"""Morphing and augmented layers, entry by entry, against the paper's matrices written out in full."""

from __future__ import annotations

import numpy as np
import pytest

from mple.morph import Cores, Ensemble, ImageShape, Layout, MorphScheme
from mple.morph.verify import expected_frobenius
from tests.support.morph_cases import (
    KEY,
    SESSION,
    channel_order,
    images,
    layer,
    morpher,
    plain_features,
    stem,
    tiled,
    unrolled,
)
from tests.support.naive import convolution_matrix, morph_matrix, order_matrix, unroll

SMALL = ImageShape(channels=2, height=6, width=6)
OBLONG = ImageShape(channels=3, height=5, width=7)
ONE = ImageShape(channels=1, height=4, width=4)
UNIFORM = Ensemble.UNIFORM
CASES = [
    pytest.param(unrolled(Cores.DISTINCT), SMALL, 3, id="unrolled"),
    pytest.param(unrolled(Cores.DISTINCT, kappa=4), SMALL, 3, id="unrolled, 4 cores"),
    pytest.param(unrolled(Cores.IDENTICAL, kappa=6), SMALL, 5, id="unrolled, one core 6 times"),
    pytest.param(unrolled(Cores.DISTINCT, kappa=7), OBLONG, 1, id="unrolled, oblong, kernel 1"),
    pytest.param(unrolled(Cores.IDENTICAL, kappa=3, border=1), OBLONG, 3, id="unrolled, border 1"),
    pytest.param(unrolled(Cores.DISTINCT, kappa=2, border=2), ONE, 7, id="unrolled, border 2, kernel 7"),
    pytest.param(unrolled(Cores.IDENTICAL, border=1, ensemble=UNIFORM), ONE, 3, id="unrolled, uniform"),
    pytest.param(tiled(Cores.IDENTICAL, 3), SMALL, 3, id="tiled, one core"),
    pytest.param(tiled(Cores.DISTINCT, 3), SMALL, 3, id="tiled, distinct cores"),
    pytest.param(tiled(Cores.IDENTICAL, 4), OBLONG, 5, id="tiled, one core, padded"),
    pytest.param(tiled(Cores.DISTINCT, 4), OBLONG, 7, id="tiled, distinct cores, padded"),
    pytest.param(tiled(Cores.DISTINCT, 8), OBLONG, 3, id="tiled, tile larger than the image"),
    pytest.param(tiled(Cores.IDENTICAL, 1), ONE, 1, id="tiled, single pixels"),
    pytest.param(tiled(Cores.IDENTICAL, 2, UNIFORM), SMALL, 3, id="tiled, uniform"),
]


def tolerance(scheme: MorphScheme) -> float:
    """Cores of the uniform ensemble are inverted here and there by different programs, hence the wider one."""
    return 1e-12 if scheme.ensemble is Ensemble.ORTHOGONAL else 1e-9


@pytest.mark.parametrize(("scheme", "shape", "kernel"), CASES)
def test_morphed_blocks_are_the_image_times_the_morph_matrix(
    scheme: MorphScheme, shape: ImageShape, kernel: int
) -> None:
    x = images(shape, 3, np.float64)
    expected = unroll(scheme, shape, x) @ morph_matrix(scheme, shape, KEY, SESSION, 1)
    np.testing.assert_allclose(morpher(scheme, shape).morph(x).reshape(3, -1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scheme", "shape", "kernel"), CASES)
def test_augmented_layer_is_inverse_morph_times_convolution_times_order(
    scheme: MorphScheme, shape: ImageShape, kernel: int
) -> None:
    filters = 3
    kernels = stem(filters, shape.channels, kernel)
    whole = morph_matrix(scheme, shape, KEY, SESSION, 1)
    plain = convolution_matrix(scheme, shape, kernels.astype(np.float64))
    expected = np.linalg.inv(whole) @ plain @ order_matrix(channel_order(filters), shape.height * shape.width)

    made = layer(scheme, shape, kernels, dtype=np.float64)
    geometry = morpher(scheme, shape).geometry
    unit_vectors = np.eye(len(whole)).reshape(-1, geometry.blocks, geometry.core_side)
    found = made.apply(unit_vectors).reshape(len(whole), -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(scheme) * max(1.0, np.abs(expected).max()))
    if scheme.layout is Layout.UNROLLED:
        np.testing.assert_array_equal(made.weight, found)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_the_convolution_matrix_of_this_test_is_the_convolution(kernel: int) -> None:
    kernels = stem(2, OBLONG.channels, kernel).astype(np.float64)
    x = images(OBLONG, 2, np.float64)
    scheme = tiled(Cores.IDENTICAL, 4)
    found = unroll(scheme, OBLONG, x) @ convolution_matrix(scheme, OBLONG, kernels)
    expected = plain_features(x, kernels).reshape(2, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("scheme", "shape", "kernel"), [case for case in CASES if "unrolled" in str(case.id)])
def test_expected_norm_of_unrolled_layers_is_that_of_the_convolution_matrix(
    scheme: MorphScheme, shape: ImageShape, kernel: int
) -> None:
    kernels = stem(3, shape.channels, kernel)
    matrix = convolution_matrix(scheme, shape, kernels.astype(np.float64))
    assert expected_frobenius(scheme, shape, kernels) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)


def test_the_order_says_which_feature_of_the_stem_comes_where() -> None:
    kernels = stem(4, SMALL.channels, 3)
    order = np.array([2, 0, 3, 1])
    x = images(SMALL, 2, np.float64)
    scheme = tiled(Cores.DISTINCT, 3)
    features = layer(scheme, SMALL, kernels, dtype=np.float64, order=order).apply(morpher(scheme, SMALL).morph(x))
    plain = plain_features(x, kernels.astype(np.float64))
    for new, old in enumerate(order.tolist()):
        np.testing.assert_allclose(features[:, new], plain[:, old], rtol=0, atol=1e-12)
