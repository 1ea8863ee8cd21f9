"""Which pictures of a site are near-duplicates of one another: orthogonal cores keep inner products.

Two morphed pictures correlate exactly as the pictures do, up to the rounding of codes; so whoever holds them finds
copies of one picture, series of one patient, and frames of one film, without any key.

Legend: N pictures, V values of a picture, M pairs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER
from mple.morph import Ensemble
from mple.wire.codecs import codec_named

THRESHOLD = 0.9
"""Correlation from which two pictures are called near-duplicates."""
_MOST_PICTURES = 8192
_AT_ONCE = 1024
_SITE, _CLAIM, _LOOKED_AT = "site", "links_M2", "looked_at_N"


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Compare all pairs of the first 8,192 pictures. Raises DoesNotApplyError: cores are not orthogonal."""
    if view.plan.morph.scheme().ensemble is not Ensemble.ORTHOGONAL:
        raise DoesNotApplyError("uniform cores do not keep inner products")
    numbers_N = view.morphed.numbers_N[:_MOST_PICTURES]
    pairs_M2, correlation_M = similar_pairs(
        view.morphed.t_NKQ[:_MOST_PICTURES].flatten(1),
        THRESHOLD,
        codec_named(view.plan.wire.codec).rounding_deviation ** 2,
    )
    return Finding(
        claims={_SITE: np.array([view.morphed.site]), _CLAIM: numbers_N[pairs_M2], _LOOKED_AT: numbers_N},
        figures=(
            Figure("pictures compared", len(numbers_N)),
            Figure("near-duplicates found", len(pairs_M2), "pairs"),
            Figure("highest correlation", round(float(correlation_M.max()), 4) if len(pairs_M2) else "none"),
        ),
    )


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Precision and recall against the same threshold on the pictures themselves."""
    train = truth.sites[str(finding.claims[_SITE][0])].train
    numbers_N = finding.claims[_LOOKED_AT].astype(np.int64)
    pixels_NV = torch.from_numpy(train.pixels_NCHW[numbers_N]).flatten(1).float()
    real_M2, _ = similar_pairs(pixels_NV, THRESHOLD)
    real = {tuple(pair) for pair in numbers_N[real_M2].tolist()}
    found = {tuple(pair) for pair in finding.claims[_CLAIM].tolist()}
    both = len(real & found)
    return (
        Figure("near-duplicates among the pictures", len(real), "pairs"),
        Figure("precision", round(both / len(found), 4) if found else "none found"),
        Figure("recall", round(both / len(real), 4) if real else "none there"),
    )


def similar_pairs(
    rows_NV: Tensor, threshold: float, code_noise: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """All pairs of rows (M, 2) that correlate at least so much, the first row the earlier one, and how much they do.
    Rows are compared after the mean row has been taken off all of them, and the noise of rounding, of this variance a
    value, off their lengths."""
    centred_NV = rows_NV - rows_NV.mean(0)
    square_N1 = centred_NV.square().sum(dim=1, keepdim=True) - code_noise * rows_NV.shape[1]
    unit_NV = centred_NV / square_N1.clamp(min=1e-9).sqrt()
    found: list[Tensor] = []
    values: list[Tensor] = []
    for low in range(0, len(unit_NV), _AT_ONCE):
        product = unit_NV[low : low + _AT_ONCE] @ unit_NV[low:].T
        pairs = torch.nonzero(torch.triu(product >= threshold, diagonal=1))
        values.append(product[pairs[:, 0], pairs[:, 1]])
        found.append(pairs + low)
    if not found:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    return torch.cat(found).numpy(), torch.cat(values).numpy()


ATTACK = Attack.by(
    name="linkage",
    adversary=OUTSIDER,
    claim="finds near-duplicate pictures of a site among its morphed pictures",
    run=run,
    score=score,
)
