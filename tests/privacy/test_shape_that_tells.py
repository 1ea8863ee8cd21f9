"""Why noise follows bands and a grid: noise that follows all of a site's covariance tells of the pictures behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape
from mple.plan import NormalisationSettings
from mple.privacy import least_power_noise, measure_spectrum
from mple.privacy.bands import band_numbers, from_cosines

IMAGE = ImageShape(channels=1, height=16, width=16)
COUNT, BUDGET_BITS = 600, 4.0


def soft_pictures() -> NDArray[np.uint8]:
    z_NCHW = np.random.default_rng(1).normal(size=(COUNT, 1, 16, 16)) * 120 / (1 + band_numbers(IMAGE)) ** 1.5
    return np.clip(np.rint(from_cosines(z_NCHW) + 128), 0, 255).astype(np.uint8)


def noise_of_the_whole_covariance(x_NV: NDArray[np.float64]) -> NDArray[np.float64]:
    values_V, vectors_VV = np.linalg.eigh(np.cov(x_NV.T))
    noise_V = least_power_noise(values_V, np.ones(len(values_V), np.int64), BUDGET_BITS)
    noise_VV: NDArray[np.float64] = (vectors_VV * noise_V) @ vectors_VV.T
    return noise_VV


def divergence_bits(one_VV: NDArray[np.float64], other_VV: NDArray[np.float64]) -> float:
    """KL of centred Gaussians: what one draw of the noise tells for the one distribution against the other."""
    ratio_VV = np.linalg.solve(other_VV, one_VV)
    return float((np.trace(ratio_VV) - len(one_VV) - np.linalg.slogdet(ratio_VV)[1]) / (2 * np.log(2)))


def test_the_noise_of_all_other_pictures_must_not_tell_of_one() -> None:
    """Who knows all other pictures sees their noise: with and without one picture it must be distributed alike."""
    pixels = soft_pictures()
    x_NV = ((pixels / 255 - 0.5) / 0.25).reshape(COUNT, -1)
    with_all = noise_of_the_whole_covariance(x_NV)
    for one in range(4):
        without = noise_of_the_whole_covariance(np.delete(x_NV, one, axis=0))
        assert COUNT * divergence_bits(with_all, without) > 2 * BUDGET_BITS
    assert measure_spectrum(pixels, NormalisationSettings()).dependent == 0
