"""The standard error of an area under the ROC curve: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics
44 (1988), in time n log n by mid-ranks (X. Sun and W. Xu, IEEE Signal Processing Letters 21 (2014)).

Legend: P positives, Q negatives, K bins.
"""

import math

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
_Z95 = 1.959963984540054


def auroc(positive_P: NDArray[np.float64], negative_Q: NDArray[np.float64]) -> tuple[float | None, Interval | None]:
    """The chance that a positive scores above a negative, a tie counted half, and its 95 % interval.

    The chance is None where either is missing, the interval where there are fewer than two of either.
    """
    scores, cells = np.unique(np.concatenate([positive_P, negative_Q]), return_inverse=True)
    positive = np.bincount(cells[: len(positive_P)], minlength=len(scores))
    negative = np.bincount(cells[len(positive_P) :], minlength=len(scores))
    return binned_auroc(positive, negative)


def binned_auroc(positive_K: NDArray[np.int64], negative_K: NDArray[np.int64]) -> tuple[float | None, Interval | None]:
    """As `auroc`, of how many score in each of some rising bins; those of one bin are ties."""
    positives, negatives = int(positive_K.sum()), int(negative_K.sum())
    if not positives or not negatives:
        return None, None
    # For each score the share of the others that it beats.
    beaten_K = (negative_K.cumsum() - negative_K / 2) / negatives
    beating_K = (positives - positive_K.cumsum() + positive_K / 2) / positives
    value = float((positive_K * beaten_K).sum() / positives)
    if min(positives, negatives) < 2:
        return value, None
    variance = sum(
        float((counts * (shares - value) ** 2).sum()) / (counts.sum() - 1) / counts.sum()
        for counts, shares in ((positive_K, beaten_K), (negative_K, beating_K))
    )
    margin = _Z95 * math.sqrt(variance)
    return value, (max(0.0, value - margin), min(1.0, value + margin))
