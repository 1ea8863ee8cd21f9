"""Two sites' layers translate the data of one into those of the other, without stem, key or order.

A₁ = M₁⁻¹·G·P and A₂ = M₂⁻¹·G·P share G·P, so T = A₁·A₂⁺ = M₁⁻¹·M₂, and x·M₁·T = x·M₂: keys of their own keep no site
apart from the others. Where there are more columns than needed, those of a grid of output positions are enough.

Legend: N pictures, K blocks, Q core side, F filters, O chosen columns.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mple.attacks.lab.adversary import ComputeNode
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import COMPUTE_NODE
from mple.attacks.means.layer_blocks import LayerBlock, layer_blocks
from mple.attacks.means.pixel_values import to_inputs
from mple.morph import Ensemble
from mple.morph.augmented import AugmentedLayer
from mple.wire.codecs import codec_named

_COLUMNS_A_PIXEL = 2
_MOST_COLUMNS = 20_000
"""Of layers in fewer bits: as many as that, for more columns average the rounding away."""

_COLUMNS_AT_ONCE = 4096


def run(view: ComputeNode, settings: AttackSettings) -> Finding:
    """Translate `settings.site`'s pictures into those of the plan's first other site."""
    others = [name for name in view.sites if name != settings.site]
    if not others:
        raise DoesNotApplyError("the run has one site only")
    to, morphed = others[0], view.sites[settings.site]
    rounded = view.plan.layer_dtype != "f32"
    orthogonal = view.plan.morph.scheme().ensemble is Ensemble.ORTHOGONAL
    orthogonal &= not codec_named(view.plan.wire.codec).needs_coding
    matrix_KQQ = translation(view.layers[settings.site], view.layers[to], rounded=rounded)
    if orthogonal and rounded:
        matrix_KQQ = 1.5 * matrix_KQQ - 0.5 * matrix_KQQ @ (matrix_KQQ.mT @ matrix_KQQ)  # nearer to an orthogonal one
    t_NKQ = morphed.t_NKQ[: settings.pictures].double()
    return Finding(
        claims={
            "from": np.array(settings.site),
            "to": np.array(to),
            "numbers_N": morphed.numbers_N[: settings.pictures],
            "matrix_KQQ": matrix_KQQ.numpy(),
            "translated_NKQ": _times(t_NKQ, matrix_KQQ).numpy(),
        },
        figures=(Figure("translated", f"{settings.site} to {to}"),),
    )


def translation(one: AugmentedLayer, other: AugmentedLayer, *, rounded: bool = False) -> Tensor:
    """M₁⁻¹·M₂ of each core (1 or K, Q, Q), float64, from two layers in the same channel order.

    Raises ValueError: the layers' stems do not see every pixel.
    """
    normal: dict[int, tuple[Tensor, Tensor]] = {}
    for ours, theirs in zip(layer_blocks(one), layer_blocks(other), strict=True):
        step = _step(ours, rounded)
        a_QO, b_QO = (_columns(block.rows_QFIJ, step) for block in (ours, theirs))
        products = (_product(a_QO, b_QO), _product(b_QO, b_QO))
        before = normal.get(ours.core)
        normal[ours.core] = products if before is None else (before[0] + products[0], before[1] + products[1])
    return torch.stack([_solved(*normal[core]) for core in sorted(normal)])


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Compare with the product of the real keys, and with what the other site would send."""
    source, to = str(finding.claims["from"]), str(finding.claims["to"])
    matrix_KQQ = torch.from_numpy(finding.claims["matrix_KQQ"])
    real_KQQ = truth.inverse_cores(source) @ torch.linalg.pinv(truth.inverse_cores(to))
    pixels_NCHW = truth.sites[source].train.pixels_NCHW[finding.claims["numbers_N"]]
    due_NKQ = torch.zeros(finding.claims["translated_NKQ"].shape, dtype=torch.float64)
    due_NKE = torch.from_numpy(truth.morpher(to).morph(to_inputs(pixels_NCHW, truth.plan).double().numpy()))
    due_NKQ[:, :, : due_NKE.shape[2]] = due_NKE
    off_NKQ = torch.from_numpy(finding.claims["translated_NKQ"]) - due_NKQ
    return (
        Figure("relative error of the translation", float((matrix_KQQ - real_KQQ).norm() / real_KQQ.norm())),
        Figure("of translated pictures, codes' rounding included", float(off_NKQ.norm() / due_NKQ.norm())),
    )


def _step(block: LayerBlock, rounded: bool) -> int:
    """Distance of the output positions whose columns are used: 3 at most, and columns enough for every pixel."""
    _, filters, high, wide = block.rows_QFIJ.shape
    step = max(1, min(3, int((filters / (_COLUMNS_A_PIXEL * block.pixels_CRS.shape[0])) ** 0.5)))
    while rounded and step > 1 and filters * (high // (step - 1) + 1) * (wide // (step - 1) + 1) <= _MOST_COLUMNS:
        step -= 1
    return step


def _columns(rows_QFIJ: Tensor, step: int) -> Tensor:
    """The columns of every `step`th position and of the last ones, where the border's pixels are seen."""
    high, wide = (sorted({*range(0, extent, step), extent - 1}) for extent in rows_QFIJ.shape[2:])
    return rows_QFIJ[:, :, high][:, :, :, wide].flatten(1)


def _product(a_QO: Tensor, b_QO: Tensor) -> Tensor:
    """a·bᵀ in float64."""
    total = torch.zeros((len(a_QO), len(b_QO)), dtype=torch.float64)
    for low in range(0, a_QO.shape[1], _COLUMNS_AT_ONCE):
        some = slice(low, low + _COLUMNS_AT_ONCE)
        total.addmm_(a_QO[:, some].double(), b_QO[:, some].double().T)
    return total


def _solved(ours_QQ: Tensor, gram_QQ: Tensor) -> Tensor:
    unused_Q = gram_QQ.diagonal() == 0  # rows beyond the coefficients that travel
    gram_QQ = gram_QQ + torch.diag(unused_Q.to(gram_QQ.dtype))
    factor, failed = torch.linalg.cholesky_ex(gram_QQ)
    if int(failed):
        raise ValueError("the layers' first convolution does not see every pixel: there is no translation")
    return torch.cholesky_solve(ours_QQ.T, factor).T


def _times(t_NKQ: Tensor, matrix_KQQ: Tensor) -> Tensor:
    if len(matrix_KQQ) == 1:
        return t_NKQ @ matrix_KQQ[0]
    return torch.bmm(t_NKQ.transpose(0, 1), matrix_KQQ).transpose(0, 1)


ATTACK = Attack.by(
    name="translation",
    adversary=COMPUTE_NODE,
    claim="one site's data as another site would have sent them",
    run=run,
    score=score,
)
