"""What bits mean: success and error of the best adversaries that there are, against the bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.privacy import gaussian_least_error, information_bits, least_power_noise, most_success


@given(st.floats(0, 20), st.floats(1e-12, 1 - 1e-9))
def test_success_lies_on_the_curve_of_the_inequality(bits: float, blind: float) -> None:
    success = most_success(bits, blind)
    assert blind <= success <= 1
    if success < 1:
        kl = success * math.log2(success / blind) + (1 - success) * math.log2((1 - success) / (1 - blind))
        assert kl == pytest.approx(bits, abs=1e-6, rel=1e-6)


@given(st.floats(0, 5), st.floats(0, 5), st.floats(1e-6, 0.99))
def test_more_bits_never_mean_less_success(one: float, other: float, blind: float) -> None:
    low, high = sorted((one, other))
    assert most_success(low, blind) <= most_success(high, blind)


@pytest.mark.parametrize(("bits", "blind", "most"), [(0.0, 0.25, 0.25), (2.0, 0.25, 1.0), (5.0, 0.0, 0.0), (0, 1, 1)])
def test_the_ends_of_the_curve(bits: float, blind: float, most: float) -> None:
    assert most_success(bits, blind) == pytest.approx(most, abs=1e-7)


def test_it_is_no_weaker_than_fano() -> None:
    """Fano: success p among n equally likely ones needs I >= log2 n - h(p) - (1 - p)·log2(n - 1)."""
    for count in (2, 10, 50_000):
        for bits in np.linspace(0.01, 0.99 * math.log2(count), 9):
            p = most_success(float(bits), 1 / count)
            entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
            assert math.log2(count) - entropy - (1 - p) * math.log2(count - 1) == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0, 4.0])
def test_the_best_adversary_is_below_the_bound(deviation: float) -> None:
    """Sixteen known pictures, one released with noise: the likeliest is named, which no adversary does better."""
    generator = np.random.default_rng(3)
    pictures_PV = generator.normal(size=(16, 12))
    pictures_PV -= pictures_PV.mean(axis=0)
    variance_V, noise_V = (pictures_PV**2).mean(axis=0), np.full(12, deviation**2)
    bits = information_bits(variance_V, noise_V, np.ones(12, np.int64))
    chosen_N = generator.integers(0, 16, 20_000)
    released_NV = pictures_PV[chosen_N] + deviation * generator.normal(size=(20_000, 12))
    named_N = ((released_NV[:, None] - pictures_PV[None]) ** 2).sum(axis=2).argmin(axis=1)
    success = float((named_N == chosen_N).mean())
    assert 1 / 16 < success <= most_success(bits, 1 / 16) + 0.01


@pytest.mark.parametrize("bits", [0.0, 0.5, 3.0, 12.0])
def test_one_gaussian_value_has_shannons_error(bits: float) -> None:
    assert gaussian_least_error(np.array([7.0]), bits) == pytest.approx(7.0 * 4.0**-bits)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(0, 200))
def test_water_filling_spends_the_bits_it_has(variances: list[float], bits: float) -> None:
    variance_N = np.array(variances)
    error = gaussian_least_error(variance_N, bits)
    assert 0 <= error <= variance_N.sum() * (1 + 1e-9)


def test_the_best_estimate_of_gaussian_pictures_is_above_the_least_error() -> None:
    """The conditional mean, on pictures with calibrated noise: its error is Σ λn/(λ + n), drawn here."""
    generator = np.random.default_rng(4)
    variance_V = 10.0 ** np.linspace(2, -2, 64)
    for bits in (1.0, 8.0, 40.0):
        noise_V = least_power_noise(variance_V, np.ones(64, np.int64), bits)
        x_NV = generator.normal(size=(4000, 64)) * np.sqrt(variance_V)
        y_NV = x_NV + generator.normal(size=(4000, 64)) * np.sqrt(noise_V)
        error = float((((variance_V / (variance_V + noise_V)) * y_NV - x_NV) ** 2).sum(axis=1).mean())
        assert gaussian_least_error(variance_V, bits) < error < variance_V.sum()


@pytest.mark.parametrize(("bits", "blind"), [(-1.0, 0.5), (math.nan, 0.5), (1.0, 1.5), (1.0, -0.1), (1.0, math.nan)])
def test_arguments_out_of_range_are_refused(bits: float, blind: float) -> None:
    with pytest.raises(ValueError, match="needs 0 or more, and 0 to 1"):
        most_success(bits, blind)


def test_pictures_without_variance_have_no_error() -> None:
    assert gaussian_least_error(np.zeros(3), 1.0) == 0.0
