"""Finding the rotations between two sets of block moments: what is left of a morph key once variances are matched.

Sought are orthogonal W_g, one for each core, with

    mean_public·W = mean_morphed,  W_gᵀ·link_public·W_h = link_morphed,

and the same for log variances and third moments. The sum of products of both sides is raised by fixed-point steps:
each W becomes the orthogonal part of the sum's gradient. A single start falls into poor optima; so components come in
one by one, largest variance first, as each finds its direction from those before.

Legend: as `mple.attacks.means.block_moments`; r components so far.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mple.attacks.means.block_moments import BlockMoments, Links

_LOG_WEIGHT = 0.25
"""Of the log variances; near-equal components differ in them as much as sampling moves them."""
_THIRD_WEIGHT = 0.3
_STEPS = 6
"""Fixed-point steps after each growth."""


def fit_rotations(public: BlockMoments, morphed: BlockMoments, links: Links) -> Tensor:
    """The rotations W_GRR.

    Guarantees: every W is orthogonal up to float32 rounding. Not promised: that the fit is the best there is.
    """
    cores, size = public.variance_GR.shape
    turn_GRR = torch.zeros(cores, size, size)
    for count in _growth(size):
        for _ in range(_STEPS):
            turn_GRR[:, :count, :count] = orthogonal(_pull(turn_GRR[:, :count, :count], public, morphed, links))
    return turn_GRR


def refined(turn_GRR: Tensor, public: BlockMoments, morphed: BlockMoments, links: Links, steps: int) -> Tensor:
    """Rotations after more fixed-point steps."""
    for _ in range(steps):
        turn_GRR = orthogonal(_pull(turn_GRR, public, morphed, links))
    return turn_GRR


def agreement(turn_GRR: Tensor, public: BlockMoments, morphed: BlockMoments, links: Links) -> float:
    """The sum of products that the fit raises, without the log variances, which no mirroring changes."""
    means = (public.mean_KR[:, None] @ turn_GRR[links.core_K] @ morphed.mean_KR[:, :, None]).sum()
    linked_LRR = public.link_LRR @ turn_GRR[links.second_L] @ morphed.link_LRR.mT
    few = public.third_GSSS.shape[1]
    third_GSS = _third_pull(turn_GRR[:, :few, :few], public, morphed, few)
    third = _THIRD_WEIGHT / 3 * (third_GSS * turn_GRR[:, :few, :few]).sum()
    return float(means + (linked_LRR * turn_GRR[links.first_L]).sum() + third)


def orthogonal(pull_Grr: Tensor) -> Tensor:
    """The orthogonal part of each matrix."""
    left, _, right = torch.linalg.svd(pull_Grr)
    whole: Tensor = left @ right
    return whole


def _growth(size: int) -> Iterator[int]:
    """How many components take part, one round after the other; the last is all."""
    count = 1
    while count < size:
        yield count
        count += max(1, count // 24)
    yield size


def _pull(turn_Grr: Tensor, public: BlockMoments, morphed: BlockMoments, links: Links) -> Tensor:
    """Gradient of half the sum of products."""
    count = turn_Grr.shape[1]
    pull_Grr = torch.zeros_like(turn_Grr)
    pull_Grr.index_add_(0, links.core_K, public.mean_KR[:, :count, None] * morphed.mean_KR[:, None, :count])
    if len(links.pairs):
        a_Lrr, b_Lrr = public.link_LRR[:, :count, :count], morphed.link_LRR[:, :count, :count]
        pull_Grr.index_add_(0, links.first_L, a_Lrr @ turn_Grr[links.second_L] @ b_Lrr.mT)
        pull_Grr.index_add_(0, links.second_L, a_Lrr.mT @ turn_Grr[links.first_L] @ b_Lrr)
    log_a_Gr, log_b_Gr = (_LOG_WEIGHT * moments.variance_GR[:, :count].log() for moments in (public, morphed))
    pull_Grr += 2 * log_a_Gr[:, :, None] * turn_Grr * log_b_Gr[:, None, :]
    few = min(count, public.third_GSSS.shape[1])
    pull_Grr[:, :few, :few] += _THIRD_WEIGHT * _third_pull(turn_Grr[:, :few, :few], public, morphed, few)
    return pull_Grr


def _third_pull(turn_Gss: Tensor, public: BlockMoments, morphed: BlockMoments, few: int) -> Tensor:
    a_Gsss, b_Gsss = (moments.third_GSSS[:, :few, :few, :few] for moments in (public, morphed))
    turned_Gsss = (a_Gsss @ turn_Gss[:, None]).mT @ turn_Gss[:, None]  # [g, a, y, x], of both later places
    return turned_Gsss.flatten(2) @ b_Gsss.mT.flatten(2).mT if few else turn_Gss
