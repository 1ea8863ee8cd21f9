"""Quantised networks stay near the trained ones, within the bits they were given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from comparison.networks import FloatNetwork, FloatStage, QuantisationSettings, quantise
from comparison.networks.equalisation import equalised
from comparison.networks.quantised import Pool
from mple.morph import ImageShape


def smooth_pictures(count: int, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blots on grey, so that maps differ from picture to picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    return coarse.repeat(2, 2).repeat(2, 3)


def network(seed: int = 1) -> FloatNetwork:
    """Every kind of stage; one channel is silent, one a hundred times as large as the others."""
    generator = torch.Generator().manual_seed(seed)

    def stage(name: str, shape: tuple[int, ...], pool: Pool = "none", flatten: bool = False) -> FloatStage:
        weights_OIpp = torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]))
        bias_O = torch.randn(shape[0], generator=generator) / 10
        return FloatStage(name=name, weights_OIpp=weights_OIpp, bias_O=bias_O, pool=pool, flatten=flatten)

    first = stage("conv1", (8, 3, 3, 3), "max")
    first.weights_OIpp.div_(64)
    first.weights_OIpp[0] = 0
    first.bias_O[0] = -1
    first.weights_OIpp[1] *= 100
    second = stage("conv2", (12, 8, 3, 3), "sum")
    second.weights_OIpp[:, 1] /= 100
    return FloatNetwork(
        name="drawn",
        input_shape=ImageShape(channels=3, height=8, width=8),
        stages=(first, second, stage("conv3", (12, 12, 1, 1)), stage("dense", (4, 48, 1, 1), flatten=True)),
    )


def error_of(settings: QuantisationSettings, seed: int = 1) -> float:
    """Root mean square of what the logits differ by at the best common scale, against the logits' own."""
    trained, fresh = network(seed), smooth_pictures(200, 2)
    made = quantise(trained, smooth_pictures(200), settings)
    found, expected = made.run(fresh).astype(np.float64), trained.run(fresh).astype(np.float64)
    scale = (found * expected).sum() / np.square(found).sum()
    return float(np.sqrt(np.square(scale * found - expected).mean() / np.square(expected).mean()))


@pytest.mark.parametrize("seed", range(5))
def test_logits_are_near_the_trained_networks(seed: int) -> None:
    assert error_of(QuantisationSettings(), seed) < 0.06


def test_more_bits_come_nearer() -> None:
    few = QuantisationSettings(modulus_bits=20, weight_bits=4, activation_bits=4)
    many = QuantisationSettings(modulus_bits=30, weight_bits=12, activation_bits=12)
    assert error_of(many) < 0.002 < 0.05 < error_of(few)


@pytest.mark.parametrize(("weight_bits", "activation_bits", "modulus_bits"), [(7, 7, 20), (5, 6, 18), (8, 4, 16)])
def test_bits_and_margin_are_kept(weight_bits: int, activation_bits: int, modulus_bits: int) -> None:
    settings = QuantisationSettings(modulus_bits=modulus_bits, weight_bits=weight_bits, activation_bits=activation_bits)
    pixels = smooth_pictures(100)
    made = quantise(network(), pixels, settings)
    assert all(stage.weight_bits <= weight_bits for stage in made.stages)
    for found in made.ranges(pixels):
        # Rounded weights and half a step of the shift move sums by a little.
        assert found.sums <= 1.1 * made.largest_sum / settings.margin
    for found in made.ranges(pixels)[:-1]:
        assert 2 ** (activation_bits - 1) * 0.4 < found.results <= 1.1 * 2**activation_bits


def test_rounding_moves_no_channels_mean() -> None:
    """Of the first stage's sums, in units of its scale, but for rounding the bias; it has half a step of the shift."""
    trained, pixels = network(), smooth_pictures(100)
    first = quantise(trained, pixels, QuantisationSettings(weight_bits=4)).stages[0]
    assert first.shift is not None
    integers = trained.integers(pixels)
    whole_NOHW = torch.nn.functional.conv2d(integers, torch.from_numpy(first.weights_OIpp).float(), padding=1)
    means_O = whole_NOHW.mean((0, 2, 3)).numpy() + first.bias_O - 2 ** (first.shift - 1)
    scaled = equalised(trained).stages[0]
    scale = float(np.abs(first.weights_OIpp).max() / scaled.weights_OIpp.abs().max())
    np.testing.assert_allclose(means_O, scaled.sums(integers).mean((0, 2, 3)).numpy() * scale, rtol=1e-3, atol=1)


def test_equalising_changes_no_logits_and_evens_channels_out() -> None:
    trained, pixels = network(), smooth_pictures(20)
    even = equalised(trained)
    np.testing.assert_allclose(even.run(pixels), trained.run(pixels), rtol=1e-3, atol=1e-3)
    largest_O = even.stages[0].weights_OIpp.abs().amax((1, 2, 3))[1:]
    before_O = trained.stages[0].weights_OIpp.abs().amax((1, 2, 3))[1:]
    assert largest_O.max() / largest_O.min() < 4 < 50 < before_O.max() / before_O.min()
    assert torch.equal(even.stages[0].weights_OIpp[0], trained.stages[0].weights_OIpp[0])  # the silent one


def test_silent_channels_and_equal_pictures_do_no_harm() -> None:
    """Ranges of width nothing: no division by zero, and logits all the same."""
    grey = np.full((2, 3, 8, 8), 128, np.uint8)
    made = quantise(network(), grey, QuantisationSettings())
    assert made.run(grey).shape == (2, 4)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"modulus_bits": 15}, "16 to 30"),
        ({"weight_bits": 2}, "3 to 16"),
        ({"activation_bits": 17}, "2 to 16"),
        ({"margin": 0.5}, "1 and more"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QuantisationSettings(**values)  # type: ignore[arg-type]


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        quantise(network(), smooth_pictures(0))
