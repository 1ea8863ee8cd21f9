"""What public pictures say of whole pictures of their kind: how the coefficients of all tiles go together.

Coefficients are those along the principal directions of public tiles, largest variance first. Mean and covariance of a
whole picture's leading ones hold what is known of brightness, of neighbouring tiles and of places.

Legend: P public pictures, B pictures, K tiles, Q core side, R leading components, D = r·K their coefficients, the first
component of all tiles first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_SHRINK = 0.15
"""How much covariances are drawn to nothing for each coefficient a public picture."""
_MOST_SHRINK = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturePrior:
    """Of leading components, float32."""

    into_QQ: Tensor
    """x·into are coefficients."""
    variance_Q: Tensor
    """Second moments of coefficients."""
    mean_KQ: Tensor
    """Mean coefficients of each place."""
    covariance_DD: Tensor
    """Of all R components, without the codes' rounding."""
    code_noise: float
    """Variance that rounding adds to each coefficient."""
    precisions: Mapping[int, Tensor]
    """By how many components take part, inverse covariances of theirs, rounding added; rising to R."""

    @property
    def components(self) -> int:
        """R."""
        return len(self.covariance_DD) // len(self.mean_KQ)

    def tiles(self, z_BKR: Tensor, count: int) -> Tensor:
        """Tiles x_BKQ that are likeliest if the first `count` components are these."""
        tiles, size = len(self.mean_KQ), count * len(self.mean_KQ)
        known_BD = (z_BKR[:, :, :count] - self.mean_KQ[:, :count]).mT.flatten(1)
        noisy_DD = self.covariance_DD[:size, :size] + self.code_noise * torch.eye(size)
        pull_DD = torch.linalg.solve(noisy_DD.double(), self.covariance_DD[:size].double()).float()
        coefficients_BKQ = self.mean_KQ.repeat(len(z_BKR), 1, 1)
        coefficients_BKQ[:, :, : self.components] += (known_BD @ pull_DD).view(len(z_BKR), self.components, tiles).mT
        return coefficients_BKQ @ self.into_QQ.mT


def measure_prior(public_PKQ: Tensor, *, components: int, code_noise: float) -> PicturePrior:
    """Measure public pictures' tiles."""
    pictures, tiles, side = public_PKQ.shape
    rows_NQ = public_PKQ.flatten(0, 1)
    variance_Q, into_QQ = torch.linalg.eigh((rows_NQ.T @ rows_NQ).double() / len(rows_NQ))
    variance_Q, into_QQ = variance_Q.flip(0).float(), into_QQ.flip(1).float()
    z_PKQ = public_PKQ @ into_QQ
    mean_KQ = z_PKQ.mean(0)
    count = min(components, side)
    centred_PD = (z_PKQ - mean_KQ)[:, :, :count].mT.flatten(1)
    covariance_DD = centred_PD.T @ centred_PD / pictures
    shrink = min(_MOST_SHRINK, _SHRINK * len(covariance_DD) / pictures)
    own_D = covariance_DD.diagonal().clone()
    covariance_DD = (1 - shrink) * covariance_DD
    covariance_DD.diagonal().copy_(own_D)
    precisions = {}
    for some in growth(count):
        size = some * tiles
        noisy_DD = covariance_DD[:size, :size].double() + max(code_noise, 1e-4) * torch.eye(size)
        precisions[some] = torch.cholesky_inverse(torch.linalg.cholesky(noisy_DD)).float()
    return PicturePrior(
        into_QQ=into_QQ,
        variance_Q=variance_Q,
        mean_KQ=mean_KQ,
        covariance_DD=covariance_DD,
        code_noise=code_noise,
        precisions=precisions,
    )


def growth(components: int) -> list[int]:
    """How many components take part, one round after the other; the last is all."""
    counts, count = [], 1
    while count < components:
        counts.append(count)
        count += max(1, count // 6)
    return [*counts, components]
