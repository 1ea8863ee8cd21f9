"""What a bound on mutual information means for an adversary: how often it can be right, and how near it can come.

`most_success` holds for every adversary and every distribution (PAC privacy: Xiao & Devadas, Crypto 2023).
`gaussian_least_error` holds for Gaussian pictures. The proofs are in docs/science/privacy.md.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mple.privacy.information import bisected


def most_success(information_bits: float, blind: float) -> float:
    """Most probability of success of any adversary who gets so many bits about a picture.

    Success is any event that picture and guess decide: naming the picture among others, coming within some distance.
    By the data-processing inequality kl(p || p0) <= I for the success p with the release and p0 of the same adversary
    when its release is replaced by an independent one, which is at most `blind`.

    That is the largest p with kl(p || blind) <= I for a bound I of 0 and above and a `blind` of 0 to 1, and 1 where the
    bound says nothing.

    Raises ValueError: an argument is out of range.
    """
    if not 0 <= blind <= 1 or not information_bits >= 0:
        raise ValueError(f"information of {information_bits} bits, blind success {blind}; needs 0 or more, and 0 to 1")
    if blind in (0.0, 1.0) or -math.log2(blind) <= information_bits:
        return blind if blind == 0.0 else 1.0
    return bisected(blind, 1.0, lambda p: _divergence_bits(p, blind) <= information_bits)[1]


def gaussian_least_error(variance_N: NDArray[np.float64], information_bits: float) -> float:
    """Least mean squared error, summed over all values, of any estimate of a Gaussian picture.

    Reverse water-filling (Shannon; Cover & Thomas, 10.3.3): the distortion-rate function at `information_bits`.

    `variance_N` are the eigenvalues of the covariance, `information_bits` bounds what the estimator knows; the error is
    in squared units of `variance_N`. Real pictures are not Gaussian and may be estimated better.
    """
    variance_N = variance_N[variance_N > 0]
    if not len(variance_N):
        return 0.0
    logs_N = np.log2(variance_N)
    low, _ = bisected(
        float(logs_N.min()) - 2 * information_bits,
        float(logs_N.max()),
        lambda level: float(np.maximum(logs_N - level, 0.0).sum()) / 2 >= information_bits,
    )
    return float(np.minimum(variance_N, 2.0**low).sum())


def _divergence_bits(p: float, q: float) -> float:
    """kl(p || q) of two coins."""
    first = p * math.log2(p / q) if p > 0 else 0.0
    second = (1 - p) * (math.log1p(-p) - math.log1p(-q)) / math.log(2) if p < 1 else 0.0
    return first + second
