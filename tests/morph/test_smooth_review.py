"""Review of layers for coefficients: honest ones of other keys and pictures agree, wrong ones show."""

import dataclasses

import numpy as np
import pytest

from mple.morph import Cores, ImageShape, MorphKey, MorphScheme
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.basis import fit_directions
from mple.morph.morpher import to_blocks
from mple.morph.scheme import MorphGeometry
from mple.morph.smooth import smooth_directions, smooth_features
from mple.morph.verify import (
    SMOOTH_STEM_TOLERANCE,
    SMOOTH_TOLERANCE,
    consistency_response,
    layer_faults,
    layers_deviation,
    stem_deviation,
)
from tests.morph.test_basis import smooth_images
from tests.support.morph_cases import KEY, OTHER_KEY, SESSION, channel_order, stem, tiled, unrolled

PROBE = b"a probe"
FILTERS = 8
CASES = [
    pytest.param(tiled(Cores.IDENTICAL), ImageShape(channels=3, height=16, width=16), id="compact"),
    pytest.param(tiled(Cores.IDENTICAL, 4), ImageShape(channels=1, height=14, width=9), id="tile 4"),
    pytest.param(tiled(Cores.DISTINCT, 5), ImageShape(channels=2, height=10, width=12), id="distinct, padded"),
    pytest.param(unrolled(Cores.DISTINCT), ImageShape(channels=1, height=16, width=16), id="paper"),
    pytest.param(unrolled(Cores.DISTINCT, 4, 1), ImageShape(channels=1, height=14, width=14), id="cores with a border"),
    pytest.param(unrolled(Cores.DISTINCT), ImageShape(channels=1, height=34, width=32), id="separable"),
]


def made(
    scheme: MorphScheme, shape: ImageShape, key: MorphKey, seed: int, order: int = 0, stem_seed: int = 11
) -> AugmentedLayer:
    """A site's layer: its own pictures, a coarse step, so that much is cut."""
    x = smooth_images(shape, 300, seed)
    blocks = to_blocks(x, scheme, MorphGeometry.of(scheme, shape))
    basis = fit_directions(blocks, scheme, shape, key, session=SESSION, key_epoch=1, step=0.5)
    kernels = stem(FILTERS, shape.channels, 3, stem_seed)
    permuted = np.roll(channel_order(FILTERS), order)
    return build_augmented_layer(scheme, shape, kernels, key, permuted, session=SESSION, key_epoch=1, basis=basis)


def stems_deviation(layer: AugmentedLayer) -> float:
    kernels = stem(FILTERS, layer.image_shape.channels, 3)
    assert layer_faults(layer, kernels) == []
    return stem_deviation(layer, kernels, PROBE)


@pytest.mark.parametrize(("scheme", "shape"), CASES)
def test_honest_layers_agree_and_wrong_ones_show(scheme: MorphScheme, shape: ImageShape) -> None:
    first, second = made(scheme, shape, KEY, 1), made(scheme, shape, OTHER_KEY, 2)
    reference = consistency_response(first, PROBE)
    for honest in (first, second):
        assert honest.values < MorphGeometry.of(scheme, shape).core_side
        assert stems_deviation(honest) < SMOOTH_STEM_TOLERANCE
        assert layers_deviation(honest, reference, consistency_response(honest, PROBE)) < SMOOTH_TOLERANCE
    turned = made(scheme, shape, OTHER_KEY, 2, order=1)
    assert stems_deviation(turned) < SMOOTH_STEM_TOLERANCE  # the stem is right
    assert not layers_deviation(turned, reference, consistency_response(turned, PROBE)) <= SMOOTH_TOLERANCE
    other = made(scheme, shape, OTHER_KEY, 2, stem_seed=12)
    assert not stem_deviation(other, stem(FILTERS, shape.channels, 3), PROBE) <= SMOOTH_STEM_TOLERANCE


def test_no_layer_at_all_is_refused() -> None:
    scheme, shape = tiled(Cores.IDENTICAL), ImageShape(channels=3, height=16, width=16)
    honest, kernels = made(scheme, shape, KEY, 1), stem(FILTERS, 3, 3)
    garbage = np.random.default_rng(1).normal(size=honest.weight.shape).astype(np.float32)
    garbage *= np.linalg.norm(honest.weight) / np.linalg.norm(garbage)
    for weight in (garbage, honest.weight * 0.9, honest.weight[::-1] * -0.5):
        assert not stem_deviation(dataclasses.replace(honest, weight=weight), kernels, PROBE) <= SMOOTH_STEM_TOLERANCE
    for factor in (0.0, 1.5):
        assert layer_faults(dataclasses.replace(honest, weight=honest.weight * factor), kernels)


@pytest.mark.parametrize(("scheme", "shape"), CASES)
def test_stems_take_smooth_features_to_smooth_images(scheme: MorphScheme, shape: ImageShape) -> None:
    """By loops: the transposed convolution of each plane, for each channel, within the span of what bases keep."""
    kernels, geometry = stem(1, shape.channels, 3).astype(np.float64)[0], MorphGeometry.of(scheme, shape)
    tile = scheme.layout.value == "tiled"
    height, width = (scheme.tile + 2,) * 2 if tile else (shape.height, shape.width)
    extent = (scheme.tile,) * 2 if tile else (geometry.padded_height, geometry.padded_width)
    before = -1 if tile else scheme.border
    for plane in smooth_features(scheme, shape, 3).reshape(-1, height, width):
        x = np.zeros((shape.channels, *extent))
        for channel, i, j in np.ndindex(shape.channels, 3, 3):
            for y, z in np.ndindex(height, width):
                row, column = before + y + i - 1, before + z + j - 1
                if 0 <= row < extent[0] and 0 <= column < extent[1]:
                    x[channel, row, column] += kernels[channel, i, j] * plane[y, z]
        for number, x_Q in enumerate(x.reshape(-1, geometry.core_side)):
            kept_QS = smooth_directions(scheme, shape, number)
            assert np.linalg.norm(x_Q - kept_QS @ (kept_QS.T @ x_Q)) < 1e-2 * np.linalg.norm(x) + 1e-12
