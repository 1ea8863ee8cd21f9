"""No reader of noisy pictures names them more often than the budget allows, and one with the key comes near it."""

from __future__ import annotations

import numpy as np
import pytest

from mple.data.normalise import normalise
from mple.plan import NoiseShape, NormalisationSettings, PrivacyMode, PrivacySettings
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum, most_success
from mple.privacy.bands import band_numbers, to_cosines
from tests.support.lopsided_pictures import natural_pixels

_PICTURES = 400


def share_named(budget_bits: float, shape: NoiseShape) -> float:
    """How often the likeliest of all pictures is the one behind its noisy form: the best that a key holder can do."""
    pixels_NCHW = natural_pixels(_PICTURES, seed=7)
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, shape=shape, budget_bits=budget_bits)
    spectrum = measure_spectrum(pixels_NCHW, NormalisationSettings())
    distribution = NoiseDistribution(spectrum=spectrum, privacy=privacy, normalisation=NormalisationSettings())
    x_NCHW = normalise(pixels_NCHW, NormalisationSettings())
    noisy_NCHW = PictureNoise(bytes(range(32)), distribution).add(x_NCHW, pixels_NCHW)
    deviation_CHW = np.sqrt(distribution.variance_K())[band_numbers(spectrum.image)]
    seen_NV = (to_cosines(noisy_NCHW.astype(np.float64)) / deviation_CHW).reshape(_PICTURES, -1)
    real_NV = (to_cosines(x_NCHW.astype(np.float64)) / deviation_CHW).reshape(_PICTURES, -1)
    likeliest_N = (seen_NV @ real_NV.T - (real_NV**2).sum(1) / 2).argmax(1)
    return float((likeliest_N == np.arange(_PICTURES)).mean())


@pytest.mark.parametrize("shape", NoiseShape)
@pytest.mark.parametrize("budget_bits", [0.5, 1.0, 2.0, 4.0])
def test_the_likeliest_picture_is_right_no_more_often_than_the_bound(budget_bits: float, shape: NoiseShape) -> None:
    bound = most_success(budget_bits, 1 / _PICTURES)
    chance = 3 * (bound * (1 - bound) / _PICTURES) ** 0.5
    assert share_named(budget_bits, shape) <= bound + chance


@pytest.mark.parametrize("shape", NoiseShape)
def test_with_a_large_budget_nearly_every_picture_is_named(shape: NoiseShape) -> None:
    assert share_named(300.0, shape) > 0.95
