"""Noise that is the same for the same picture, distribution and secret, other for any other, and has its variances."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mple.morph import ImageShape
from mple.plan import NoiseShape, NormalisationSettings, PrivacyMode, PrivacySettings
from mple.privacy import NoiseDistribution, PictureNoise, Spectrum
from mple.privacy.bands import band_counts, band_numbers, to_cosines

IMAGE = ImageShape(channels=3, height=8, width=6)
SPECTRUM = Spectrum(
    image=IMAGE,
    exponents=tuple(20 - 2 * band for band in range(len(band_counts(IMAGE)))),
    pictures=500,
    dependent=0,
)
SECRET, OTHER_SECRET = bytes(range(32)), bytes(32)


def distribution_of(
    shape: NoiseShape = NoiseShape.COVARIANCE, budget_bits: float = 20.0, std: float = 0.25
) -> NoiseDistribution:
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, shape=shape, budget_bits=budget_bits)
    return NoiseDistribution(
        spectrum=SPECTRUM, privacy=privacy, normalisation=NormalisationSettings(mean=(0.5,), std=(std,))
    )


DISTRIBUTION = distribution_of()
RISEN = dataclasses.replace(SPECTRUM, exponents=(21, *SPECTRUM.exponents[1:]))
PIXELS = np.random.default_rng(1).integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)
X = ((PIXELS / 255 - 0.5) / 0.25).astype(np.float32)


def test_the_same_picture_gets_the_same_noise_after_a_restart_and_in_any_company() -> None:
    whole = PictureNoise(SECRET, DISTRIBUTION).add(X, PIXELS)
    again = PictureNoise(SECRET, NoiseDistribution.from_json(DISTRIBUTION.to_json()))
    order = np.random.default_rng(2).permutation(40)
    assert again.add(X[order], PIXELS[order]).tobytes() == whole[order].tobytes()
    assert again.add(X[3:4], PIXELS[3:4]).tobytes() == whole[3:4].tobytes()


@pytest.mark.parametrize(
    "other",
    [
        PictureNoise(OTHER_SECRET, DISTRIBUTION),
        PictureNoise(SECRET, distribution_of(budget_bits=20.5)),
        PictureNoise(SECRET, distribution_of(NoiseShape.ISOTROPIC)),
        PictureNoise(SECRET, distribution_of(std=0.26)),
        PictureNoise(SECRET, dataclasses.replace(DISTRIBUTION, spectrum=RISEN)),
    ],
    ids=["secret", "budget", "shape", "normalisation", "spectrum"],
)
def test_any_other_secret_or_distribution_draws_independent_noise(other: PictureNoise) -> None:
    """Not the same draw at another scale, which would give the picture away by subtraction."""
    noise = PictureNoise(SECRET, DISTRIBUTION)
    one, two = (np.stack([each.draw(pixels) for pixels in PIXELS]) for each in (noise, other))
    numbers = band_numbers(IMAGE).reshape(-1)
    z_one, z_two = (
        to_cosines(drawn).reshape(40, -1) / np.sqrt(each.distribution.variance_K())[numbers]
        for drawn, each in ((one, noise), (two, other))
    )
    assert abs(float((z_one * z_two).mean())) < 5 / np.sqrt(z_one.size)


def test_pictures_that_differ_by_a_grey_level_get_independent_noise() -> None:
    noise = PictureNoise(SECRET, DISTRIBUTION)
    nearly = PIXELS[0].copy()
    nearly[0, 0, 0] ^= 1
    one, two = noise.draw(PIXELS[0]), noise.draw(nearly)
    assert abs(np.corrcoef(one.reshape(-1), two.reshape(-1))[0, 1]) < 0.5
    assert not np.isclose(one, two).any()


@pytest.mark.parametrize("shape", NoiseShape)
def test_noise_has_the_variances_of_its_distribution(shape: NoiseShape) -> None:
    distribution = distribution_of(shape)
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (3000, 3, 8, 6), dtype=np.uint8)
    noise = PictureNoise(SECRET, distribution)
    z_NV = to_cosines(np.stack([noise.draw(one) for one in pixels])).reshape(3000, -1)
    numbers = band_numbers(IMAGE).reshape(-1)
    found_K = np.bincount(numbers, weights=(z_NV**2).mean(axis=0)) / band_counts(IMAGE)
    np.testing.assert_allclose(found_K, distribution.variance_K(), rtol=0.12)
    deviations_NV = z_NV / np.sqrt(distribution.variance_K())[numbers]
    assert abs(deviations_NV.mean()) < 5 / np.sqrt(deviations_NV.size)
    assert (np.abs(deviations_NV) < 1).mean() == pytest.approx(0.6827, abs=0.005)
    assert float(np.abs(np.corrcoef(deviations_NV[:, :40].T) - np.eye(40)).max()) < 0.1
    assert float((z_NV**2).mean()) ** 0.5 == pytest.approx(distribution.deviation(), rel=0.02)
    assert distribution.deviation_px() == pytest.approx(distribution.deviation() * 63.75)
    if shape is NoiseShape.ISOTROPIC:
        assert len(set(distribution.variance_K().tolist())) == 1


def test_noisy_values_are_on_a_grid_that_keeps_low_bits_from_telling() -> None:
    noisy = PictureNoise(SECRET, DISTRIBUTION).add(X, PIXELS)
    assert noisy.dtype == np.float32
    assert (noisy * 2**12 == np.rint(noisy * 2**12)).all()
    assert np.abs(noisy - X).max() > 0.1


def test_the_distribution_meets_its_budget_and_reads_back() -> None:
    for shape in NoiseShape:
        distribution = distribution_of(shape, budget_bits=7.25)
        assert 7.25 * (1 - 1e-9) <= distribution.information_bits() <= 7.25
        assert NoiseDistribution.from_json(distribution.to_json()) == distribution
    assert distribution_of().deviation() < distribution_of(NoiseShape.ISOTROPIC).deviation()


def test_equal_distributions_have_equal_digests_however_many_pictures_they_were_measured_on() -> None:
    grown = dataclasses.replace(DISTRIBUTION, spectrum=dataclasses.replace(SPECTRUM, pictures=501, dependent=3))
    assert grown.digest() == DISTRIBUTION.digest()
    assert DISTRIBUTION.digest().hex() == "68de4c90420a72d6ceabd499e9d7bb315fac86b7f921e0677e0d621cae362691"


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", DISTRIBUTION.to_json()[:-1], DISTRIBUTION.to_json().replace(b"20.0", b"-1")]
)
def test_what_is_no_distribution_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="the noise distribution is damaged"):
        NoiseDistribution.from_json(text)


def test_the_first_draw_is_golden() -> None:
    """Another draw for the same secret would show every site's pictures a second time, under other noise."""
    found = PictureNoise(SECRET, DISTRIBUTION).add(X[:1] * 0, PIXELS[:1]).reshape(-1)[:4]
    assert (found * 2**12).astype(int).tolist() == [7366, 7610, 4247, 4811]


def test_other_shapes_and_secrets_are_refused_and_no_secret_is_shown() -> None:
    noise = PictureNoise(SECRET, DISTRIBUTION)
    with pytest.raises(ValueError, match="this noise is for"):
        noise.add(X[:, :1], PIXELS[:, :1])
    with pytest.raises(ValueError, match="32 bytes"):
        PictureNoise(SECRET[:-1], DISTRIBUTION)
    assert SECRET.hex() not in repr(noise)
    assert json.loads(DISTRIBUTION.to_json()).keys() == {"normalisation", "privacy", "spectrum"}
