"""The bound on mutual information against independent estimates, and calibration: exact, monotone, of least power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mple.morph import ImageShape
from mple.privacy import information_bits, isotropic_noise, least_power_noise
from mple.privacy.bands import band_counts, band_numbers, from_cosines

VARIANCES = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=12)
BUDGETS = st.floats(1e-3, 200)
SMALL = ImageShape(channels=1, height=4, width=4)


def ones(variance_K: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.ones(len(variance_K), np.int64)


def nearest_neighbour_bits(x_N2: NDArray[np.float64], y_N2: NDArray[np.float64], neighbours: int = 4) -> float:
    """Kraskov, Stögbauer & Grassberger (2004), first estimator, in the maximum norm: it knows nothing of Gaussians."""
    count = len(x_N2)
    apart_x, apart_y = (np.abs(z[:, None] - z[None]).max(axis=2) for z in (x_N2, y_N2))
    both = np.maximum(apart_x, apart_y)
    for apart in (apart_x, apart_y, both):
        np.fill_diagonal(apart, np.inf)
    reach = np.partition(both, neighbours - 1, axis=1)[:, neighbours - 1, None]
    harmonic = np.concatenate([[-np.inf, 0], np.cumsum(1 / np.arange(1, count))])
    digamma = harmonic - np.euler_gamma
    near = [digamma[(apart < reach).sum(axis=1) + 1] for apart in (apart_x, apart_y)]
    return float((digamma[neighbours] + digamma[count] - np.mean(near[0] + near[1])) / math.log(2))


def test_a_gaussian_pair_has_what_its_nearest_neighbours_say() -> None:
    generator = np.random.default_rng(1)
    variance_K, noise_K = np.array([4.0, 0.5]), np.array([1.0, 0.25])
    x_N2 = generator.normal(size=(1200, 2)) * np.sqrt(variance_K)
    y_N2 = x_N2 + generator.normal(size=(1200, 2)) * np.sqrt(noise_K)
    bound = information_bits(variance_K, noise_K, ones(variance_K))
    assert bound == pytest.approx(0.5 * math.log2(5) + 0.5 * math.log2(3))
    assert nearest_neighbour_bits(x_N2, y_N2) == pytest.approx(bound, abs=0.15)


def test_banded_gaussian_pictures_have_what_the_determinants_say() -> None:
    """I = 1/2 log2 det(I + Σ·Σn^-1) with whole matrices in pixel space; both are diagonal in the fixed basis."""
    numbers, counts = band_numbers(SMALL).reshape(-1), band_counts(SMALL)
    variance_K = np.geomspace(30, 0.05, len(counts))
    noise_K = least_power_noise(variance_K, counts, 3.0)
    basis_NN = from_cosines(np.eye(16).reshape(16, 1, 4, 4)).reshape(16, 16).T
    data_NN, noise_NN = ((basis_NN * values_K[numbers]) @ basis_NN.T for values_K in (variance_K, noise_K))
    sign, log_determinant = np.linalg.slogdet(np.eye(16) + data_NN @ np.linalg.inv(noise_NN))
    assert sign == 1
    assert log_determinant / (2 * math.log(2)) == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("rotation", [0.0, 0.4, 1.0])
def test_correlated_pictures_have_no_more_than_the_bound(rotation: float) -> None:
    """The basis need not be that of the covariance: off-diagonal parts only lower what is left to tell."""
    turn = np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    covariance = turn @ np.diag([5.0, 0.3]) @ turn.T
    noise_K = np.array([1.5, 0.5])
    exact = 0.5 * math.log2(np.linalg.det(np.eye(2) + covariance / noise_K))
    bound = information_bits(np.diag(covariance).copy(), noise_K, np.ones(2, np.int64))
    assert exact <= bound + 1e-12
    assert (rotation == 0.0) == (exact == pytest.approx(bound))


@pytest.mark.parametrize("separation", [0.5, 1.0, 2.0, 6.0])
def test_pictures_that_are_not_gaussian_have_no_more_than_the_bound(separation: float) -> None:
    """Two clusters of points, integrated numerically: the true information of x = ±s and y = x + n."""
    y = np.linspace(-separation - 10, separation + 10, 40_001)
    density = (np.exp(-((y - separation) ** 2) / 2) + np.exp(-((y + separation) ** 2) / 2)) / math.sqrt(8 * math.pi)
    entropy = -np.trapezoid(density * np.log2(np.maximum(density, 1e-300)), y)
    exact = entropy - 0.5 * math.log2(2 * math.pi * math.e)
    bound = information_bits(np.array([separation**2]), np.ones(1), np.ones(1, np.int64))
    assert 0 < exact <= bound
    assert exact <= 1.0 + 1e-6


@given(VARIANCES, BUDGETS)
def test_calibration_is_exact_and_never_above_the_budget(variances: list[float], budget: float) -> None:
    variance_K = np.array(variances)
    for calibrated in (isotropic_noise, least_power_noise):
        found = information_bits(variance_K, calibrated(variance_K, ones(variance_K), budget), ones(variance_K))
        assert found <= budget
        assert found == pytest.approx(budget, rel=1e-9)


@given(VARIANCES, st.floats(1e-3, 20), st.floats(1.01, 10))
def test_a_larger_budget_needs_less_noise_in_every_band(variances: list[float], budget: float, factor: float) -> None:
    variance_K = np.array(variances)
    for calibrated in (isotropic_noise, least_power_noise):
        more, less = (calibrated(variance_K, ones(variance_K), budget * by) for by in (1.0, factor))
        assert (less < more).all()


@given(VARIANCES, st.floats(0.1, 30), st.integers(0, 2**32 - 1))
def test_no_other_noise_of_the_same_information_has_less_power(
    variances: list[float], budget: float, seed: int
) -> None:
    """Perturb the noise at random, scale it back to the budget: its sum is never smaller."""
    variance_K = np.array(variances)
    best_K = least_power_noise(variance_K, ones(variance_K), budget)
    shape_K = best_K * np.exp(np.random.default_rng(seed).normal(0, 0.3, len(best_K)))
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        within = information_bits(variance_K, shape_K * math.exp(middle), ones(variance_K)) <= budget
        low, high = (low, middle) if within else (middle, high)
    assert best_K.sum() <= (shape_K * math.exp(high)).sum() * (1 + 1e-9)
    assert best_K.sum() <= isotropic_noise(variance_K, ones(variance_K), budget).sum() * (1 + 1e-9)


@pytest.mark.parametrize("budget", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="a budget of"):
        isotropic_noise(np.ones(2), np.ones(2, np.int64), budget)


def test_what_can_not_be_calibrated_is_refused() -> None:
    count_K = np.ones(2, np.int64)
    with pytest.raises(ValueError, match="all pictures are equal"):
        isotropic_noise(np.zeros(2), count_K, 1.0)
    with pytest.raises(ValueError, match="needs some in every band"):
        least_power_noise(np.array([1.0, 0.0]), count_K, 1.0)
    with pytest.raises(ValueError, match="noise above 0"):
        information_bits(np.ones(2), np.array([1.0, 0.0]), count_K)
    with pytest.raises(ValueError, match="finite variances"):
        information_bits(np.array([1.0, math.nan]), np.ones(2), count_K)
