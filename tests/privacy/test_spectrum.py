"""The fixed basis and its bands, and what a site measures in it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mple.morph import ImageShape
from mple.plan import NormalisationSettings
from mple.privacy import Spectrum, measure_spectrum
from mple.privacy.bands import band_counts, band_numbers, from_cosines, to_cosines

SHAPES = st.builds(ImageShape, channels=st.integers(1, 4), height=st.integers(1, 40), width=st.integers(1, 40))
NORMALISATION = NormalisationSettings()
IMAGE = ImageShape(channels=3, height=8, width=8)


def pictures(count: int, seed: int = 1, image: ImageShape = IMAGE) -> NDArray[np.uint8]:
    """Soft pictures: neighbours are alike."""
    generator = np.random.default_rng(seed)
    z_NCHW = generator.normal(size=(count, image.channels, image.height, image.width))
    z_NCHW *= 120 / (1 + band_numbers(image))
    return np.clip(np.rint(from_cosines(z_NCHW) + 128), 0, 255).astype(np.uint8)


@given(SHAPES)
def test_the_basis_keeps_lengths_and_is_undone(image: ImageShape) -> None:
    x_NCHW = np.random.default_rng(0).normal(size=(2, image.channels, image.height, image.width))
    z_NCHW = to_cosines(x_NCHW)
    np.testing.assert_allclose((z_NCHW**2).sum(axis=(1, 2, 3)), (x_NCHW**2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(from_cosines(z_NCHW), x_NCHW, atol=1e-12)


@given(SHAPES)
def test_bands_are_numbered_without_gaps_and_do_not_mix_channels(image: ImageShape) -> None:
    numbers_CHW, counts_K = band_numbers(image), band_counts(image)
    assert counts_K.sum() == image.elements and counts_K.min() > 0
    assert len(counts_K) % image.channels == 0
    for first, second in pairwise(numbers_CHW):
        assert first.max() < second.min()
    assert (numbers_CHW == numbers_CHW[0, 0, 0]).sum() == 1


def test_grey_is_the_first_channel_vector() -> None:
    grey_NCHW = np.repeat(np.random.default_rng(2).normal(size=(1, 1, 8, 8)), 3, axis=1)
    assert np.abs(to_cosines(grey_NCHW)[0, 1:]).max() < 1e-12


def test_measured_variances_are_above_the_true_ones_and_near_them() -> None:
    pixels = pictures(4000)
    spectrum = measure_spectrum(pixels, NORMALISATION)
    z_NCHW = to_cosines((pixels / 255 - 0.5) / 0.25)
    true_K = np.bincount(band_numbers(IMAGE).reshape(-1), weights=z_NCHW.var(axis=0).reshape(-1)) / band_counts(IMAGE)
    ratio_K = spectrum.variance_K / true_K
    assert (ratio_K > 1).all()
    assert (ratio_K < 2**0.25 * 1.2).all()


def test_normalisation_by_channel_is_applied() -> None:
    pixels = pictures(200)
    whole = measure_spectrum(pixels, NormalisationSettings(mean=(0.1, 0.2, 0.3), std=(0.25, 0.25, 0.25)))
    assert whole == measure_spectrum(pixels, NORMALISATION)  # a mean moves no variance
    finer = measure_spectrum(pixels, NormalisationSettings(mean=(0.5,), std=(0.125,)))
    assert [b - a for a, b in zip(whole.exponents, finer.exponents, strict=True)] == [8] * len(whole.exponents)


@pytest.mark.parametrize("count", [6, 40, 300])
def test_dependent_pictures_are_counted_one_by_one(count: int) -> None:
    pixels = pictures(count, seed=9)
    spectrum = measure_spectrum(pixels, NORMALISATION)
    without = (measure_spectrum(np.delete(pixels, one, axis=0), NORMALISATION) for one in range(count))
    assert spectrum.dependent == sum(other.exponents != spectrum.exponents for other in without)


def test_many_pictures_leave_none_that_counts() -> None:
    small = ImageShape(channels=1, height=4, width=4)
    few, many = (measure_spectrum(pictures(count, image=small), NORMALISATION) for count in (20, 20_000))
    assert few.dependent > 0.2 * 20
    assert many.dependent < 0.02 * 20_000


def test_what_never_varies_counts_as_a_grey_level() -> None:
    black = np.zeros((50, 1, 4, 4), np.uint8)
    spectrum = measure_spectrum(black, NORMALISATION)
    assert set(spectrum.variance_K.tolist()) == {2.0**-12}
    assert spectrum.dependent == 0


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pictures_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} training pictures; noise is calibrated on three at least"):
        measure_spectrum(pictures(count), NORMALISATION)


def test_a_normalisation_beyond_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise normalisation\.std"):
        measure_spectrum(pictures(50), NormalisationSettings(mean=(0.5,), std=(1e-5,)))


def test_a_spectrum_that_does_not_fit_is_refused() -> None:
    spectrum = measure_spectrum(pictures(50), NORMALISATION)
    with pytest.raises(ValueError, match="exponents for"):
        dataclasses.replace(spectrum, exponents=spectrum.exponents[1:])
    with pytest.raises(ValueError, match="allowed are -48 to 80"):
        Spectrum(image=IMAGE, exponents=(81, *spectrum.exponents[1:]), pictures=1, dependent=0)
    assert 0 < spectrum.most_bits < 7.1 * len(spectrum.exponents)
