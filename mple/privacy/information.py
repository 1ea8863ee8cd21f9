"""How much noise bounds what a picture gives away: the mutual information of x and x + n, and the noise for a budget.

Everything is diagonal here: a picture is written in an orthonormal basis that is fixed beforehand, values of equal
variance form a band, and the noise of a band has one variance. The bound needs no more than the second moments of x
(docs/science/privacy.md, steps 1 to 3): for every distribution of x with mean square λ about any fixed point,

    I(x; x + n) <= 1/2 Σ log2(1 + λ/n)   bits, equal for a Gaussian x with independent values.

Legend: K bands.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bands = NDArray[np.float64]


def information_bits(variance_K: Bands, noise_K: Bands, count_K: NDArray[np.int64]) -> float:
    """Most mutual information of a picture and its noisy form, in bits.

    Args:
        variance_K: Mean square of a band's values about a fixed point, 0 and above.
        noise_K: Variance of the noise on each of them, above 0.
        count_K: Values in each band.

    Raises ValueError: a variance is negative, or a noise is not above 0.
    """
    if not (np.isfinite(variance_K).all() and variance_K.min() >= 0 and np.isfinite(noise_K).all()):
        raise ValueError(f"variances {variance_K} with noise {noise_K}; needs finite variances of 0 or more")
    if noise_K.min() <= 0:
        raise ValueError(f"the noise of a band is {noise_K.min()}; needs noise above 0 everywhere")
    return float(np.sum(count_K * np.log1p(variance_K / noise_K)) / (2 * np.log(2)))


def isotropic_noise(variance_K: Bands, count_K: NDArray[np.int64], budget_bits: float) -> Bands:
    """The same noise variance for all bands, the least that keeps `information_bits` within the budget.

    Guarantees: the information is at most the budget, and less by no more than 1e-9 of it for budgets below 200 bits a
    value; the smaller the budget, the larger the noise of every band.

    Raises ValueError: the budget is not above 0, or all variances are 0.
    """
    return _calibrated(lambda scale: np.full_like(variance_K, scale), variance_K, count_K, budget_bits)


def least_power_noise(variance_K: Bands, count_K: NDArray[np.int64], budget_bits: float) -> Bands:
    """Noise variances of the least sum over all values that keeps `information_bits` within the budget.

    Where the derivatives of power and information balance (Lagrange), n·(n + λ) = c·λ with one c for all bands; for
    small budgets n is near sqrt(c·λ). A band without variance gets no noise, so give every band some.

    Guarantees: as `isotropic_noise`; no other diagonal noise of the same information has a smaller sum.

    Raises ValueError: the budget is not above 0, or a variance is not.
    """
    if variance_K.min() <= 0:
        raise ValueError(f"a band has variance {variance_K.min()}; shaped noise needs some in every band")

    def balanced(scale: float) -> Bands:
        root_K: Bands = np.sqrt(variance_K * variance_K + 4 * scale * variance_K)
        return 2 * scale * variance_K / (variance_K + root_K)

    return _calibrated(balanced, variance_K, count_K, budget_bits)


def _calibrated(
    noise_at: Callable[[float], Bands], variance_K: Bands, count_K: NDArray[np.int64], budget_bits: float
) -> Bands:
    """Bisection on the logarithm of the scale; information falls with it."""
    if not 0 < budget_bits < float("inf"):
        raise ValueError(f"a budget of {budget_bits} bits; needs more than 0 and finite")
    if not variance_K.max() > 0:
        raise ValueError("all pictures are equal: there is nothing to hide, and no noise to calibrate")
    low, high = np.log(variance_K.max()) + np.array([-600.0, 300.0])
    _, high = bisected(
        low, high, lambda log: information_bits(variance_K, noise_at(float(np.exp(log))), count_K) > budget_bits
    )
    return noise_at(float(np.exp(high)))


def bisected(low: float, high: float, is_below: Callable[[float], bool]) -> tuple[float, float]:
    """The two neighbouring numbers between which `is_below` turns from true to false."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low, high
