"""Moments of blocks, and of blocks with one another, as morphing leaves them.

Blocks t = x·M have covariances Mᵀ·Σ·M: what is measured on public pictures and what is measured on morphed ones differ
by the cores alone. Here both are measured and put into coordinates in which only rotations are unknown: the leading
principal components of each core's blocks, scaled to variance 1.

A *link* is the covariance of two blocks, averaged over all pairs of blocks that share their two cores and their
displacement. Where blocks have few links, as with one core for a whole picture, third moments of the leading
components take their place.

Legend: B pictures, K blocks, Q core side, R components, S components with third moments, G cores (1 where all blocks
share one, else K), L links, N blocks of one core.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from mple.morph import Cores, Layout, MorphGeometry, MorphScheme

_REACH = 3
"""Tiles farther apart than this in rows or columns are not linked."""
_MOST_LINKS = 2048
_FEW_LINKS = 4
_DENSE_SIDE = 512
"""Longer blocks have their leading components found by subspace iteration."""
_SPARE, _ITERATIONS = 16, 8


@dataclass(frozen=True, slots=True)
class Links:
    """Which pairs of blocks make which link, and which cores it binds. The same for public and morphed pictures."""

    pairs: tuple[tuple[tuple[int, int], ...], ...]
    first_L: Tensor
    """The core of each pair's first block."""
    second_L: Tensor
    core_K: Tensor
    """The core of each block."""

    @property
    def cores(self) -> int:
        """Number of different cores, G."""
        return int(self.core_K.max()) + 1

    @property
    def are_few(self) -> bool:
        """Whether third moments are needed."""
        return len(self.pairs) < _FEW_LINKS * self.cores


@dataclass(frozen=True, slots=True)
class BlockMoments:
    """Moments in principal coordinates, float32."""

    mean_KQ: Tensor
    """Mean of each block, as it is."""
    into_GQR: Tensor
    """(t - mean)·into has uncorrelated components of variance 1, the leading ones first."""
    back_GRQ: Tensor
    """Undoes `into` within the components."""
    variance_GR: Tensor
    mean_KR: Tensor
    """Mean of each block in coordinates."""
    link_LRR: Tensor
    third_GSSS: Tensor
    """E[z_a·z_b·z_c]; S is 0 where links are many."""


def links_of(scheme: MorphScheme, geometry: MorphGeometry) -> Links:
    """The links of a layout."""
    shared = scheme.cores is Cores.IDENTICAL
    columns = geometry.columns if scheme.layout is Layout.TILED else geometry.blocks
    found: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for first in range(geometry.blocks):
        for second in range(geometry.blocks):
            down, along = second // columns - first // columns, second % columns - first % columns
            near = scheme.layout is Layout.UNROLLED or max(abs(down), abs(along)) <= _REACH
            if (down, along) > (0, 0) and near:  # the other half are the transposes
                found[(down, along) if shared else (first, second)].append((first, second))
    kept = sorted(found, key=lambda name: (-len(found[name]), name))[:_MOST_LINKS]
    core_K = torch.zeros(geometry.blocks, dtype=torch.int64) if shared else torch.arange(geometry.blocks)
    ends = [(int(core_K[found[name][0][0]]), int(core_K[found[name][0][1]])) for name in kept]
    both = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2)
    return Links(tuple(tuple(found[name]) for name in kept), both[:, 0], both[:, 1], core_K)


def measure_moments(t_BKQ: Tensor, links: Links, *, components: int, code_noise: float = 0.0) -> BlockMoments:
    """Measure blocks, public or morphed.

    Args:
        t_BKQ: Blocks.
        links: Of their layout.
        components: R, at most Q and below the number of pictures.
        code_noise: Variance that rounding on the wire added to each value; it is taken off.
    """
    mean_KQ = t_BKQ.mean(0)
    centred_BKQ = t_BKQ - mean_KQ
    found = [_principal(centred_BKQ[:, links.core_K == core].flatten(0, 1), components) for core in range(links.cores)]
    variance_GR = torch.stack([variance_R for variance_R, _ in found]) - code_noise
    variance_GR = torch.maximum(variance_GR, variance_GR[:, :1] * 1e-6)
    vectors_GQR = torch.stack([vectors_QR for _, vectors_QR in found])
    into_GQR = vectors_GQR / variance_GR.sqrt()[:, None]
    z_BKR = torch.einsum("bkq,kqr->bkr", centred_BKQ, into_GQR[links.core_K])
    return BlockMoments(
        mean_KQ,
        into_GQR,
        (vectors_GQR * variance_GR.sqrt()[:, None]).mT.contiguous(),
        variance_GR,
        torch.einsum("kq,kqr->kr", mean_KQ, into_GQR[links.core_K]),
        _linked(z_BKR, links),
        torch.stack([_third(z_BKR[:, links.core_K == core].flatten(0, 1), links) for core in range(links.cores)]),
    )


def _linked(z_BKR: Tensor, links: Links) -> Tensor:
    link_LRR = torch.zeros(len(links.pairs), z_BKR.shape[2], z_BKR.shape[2])
    for number, pairs in enumerate(links.pairs):
        for first, second in pairs:
            link_LRR[number] += z_BKR[:, first].T @ z_BKR[:, second] / (len(z_BKR) * len(pairs))
    return link_LRR


def _third(z_NR: Tensor, links: Links) -> Tensor:
    if not links.are_few:
        return torch.zeros(0, 0, 0)
    return torch.stack([(z_NR * z_N[:, None]).T @ z_NR / len(z_NR) for z_N in z_NR.T])


def _principal(centred_NQ: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest variances, falling, and their directions (Q, R)."""
    rows, side = centred_NQ.shape
    if side <= _DENSE_SIDE:
        covariance_QQ = (centred_NQ.T @ centred_NQ).double() / rows
        variance, vectors = torch.linalg.eigh(covariance_QQ)
        return variance.flip(0)[:count].float(), vectors.flip(1)[:, :count].float()
    basis = torch.randn(side, min(count + _SPARE, rows, side), generator=torch.Generator().manual_seed(1))
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(centred_NQ.T @ (centred_NQ @ basis))[0]
    within = centred_NQ @ basis
    variance, turn = torch.linalg.eigh((within.T @ within).double() / rows)
    return variance.flip(0)[:count].float(), (basis @ turn.flip(1)[:, :count].float())
