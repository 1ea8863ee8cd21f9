"""Pictures from morphed pictures alone: the key is fitted to what public pictures of the same kind have in common.

An orthogonal core keeps variances, and hides only which directions they belong to. Public pictures tell the directions;
what the variances leave open, covariances between neighbouring blocks settle, for all of them went through the same or
a fixed core; and where there are few blocks, third moments. Neither a pair, nor a layer, nor the stem is needed.

Without tiles a mirrored world has nearly the same moments: of both fits the better one is taken, and both are scored.

Legend: B pictures, C channels, H W size, K blocks, Q core side, R components, G cores.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding, RecoveredPictures
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER
from mple.attacks.means.block_moments import BlockMoments, Links, links_of, measure_moments
from mple.attacks.means.blocks import blocks_of, pictures_of
from mple.attacks.means.pixel_values import to_pixels, with_planned_noise
from mple.attacks.means.rotation_fit import agreement, fit_rotations, orthogonal, refined
from mple.morph import Ensemble, Layout
from mple.plan import RunPlan
from mple.privacy.picture_scores import psnr, ssim
from mple.wire.codecs import codec_named

_WEAKEST = 1e-3
"""Components of less variance, two grey levels with the usual normalisation, are not fitted."""
_MOST_COMPONENTS = 192
_MOST_WITH_THIRD = 64
_MIRROR_STEPS = 20


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Fit the cores and recover the first pictures.

    Raises DoesNotApplyError: cores are not orthogonal, or there are too few pictures for a covariance.
    """
    plan, t_BKQ = view.plan, view.morphed.t_NKQ
    scheme = plan.morph.scheme()
    if scheme.ensemble is not Ensemble.ORTHOGONAL:
        raise DoesNotApplyError("uniform cores change variances, and this attack goes by variances; others open them")
    if min(len(t_BKQ), len(view.public_PCHW)) < 16:
        raise DoesNotApplyError(f"{len(t_BKQ)} morphed and {len(view.public_PCHW)} public pictures are too few")
    public_BKQ = blocks_of(with_planned_noise(view.public_PCHW, plan), plan)
    links, noise = links_of(scheme, plan.geometry), codec_named(plan.wire.codec).rounding_deviation ** 2
    public, morphed = measured(public_BKQ, t_BKQ, links, noise)
    turn_GRR = fit_rotations(public, morphed, links)
    mirrored = _mirrored(turn_GRR, public, morphed, links, plan)
    if mirrored is not None:
        turn_GRR = max((mirrored, turn_GRR), key=lambda one: agreement(one, public, morphed, links))
    first_BKQ = t_BKQ[: settings.pictures]
    x_NCHW = pictures_of(opened(first_BKQ, turn_GRR, public, morphed, links), plan)
    pixels_NCHW = to_pixels(x_NCHW, plan.normalisation)
    recovered = RecoveredPictures(
        site=view.morphed.site, numbers_N=view.morphed.numbers_N[: settings.pictures], pixels_NCHW=pixels_NCHW
    )
    fitted = len(turn_GRR[0])
    figures = (
        Figure("morphed pictures used", len(t_BKQ)),
        Figure("public pictures used", len(view.public_PCHW)),
        Figure("components fitted", f"{fitted} of {plan.geometry.core_side}"),
    )
    return Finding(recovered=(recovered,), figures=figures)


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """How good the pictures are if who looks at them may mirror them."""
    (recovered,) = finding.recovered
    pixels_NCHW = truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    flipped_NCHW = np.ascontiguousarray(recovered.pixels_NCHW[..., ::-1])
    mirrored = float(ssim(flipped_NCHW, pixels_NCHW).mean())
    return (
        Figure("mean SSIM of the mirrored pictures", round(mirrored, 4)),
        Figure("mean PSNR of the mirrored pictures", round(float(psnr(flipped_NCHW, pixels_NCHW).mean()), 2), "dB"),
    )


def measured(public_BKQ: Tensor, t_BKQ: Tensor, links: Links, code_noise: float) -> tuple[BlockMoments, BlockMoments]:
    """Moments of public and of morphed blocks, of as many components as both bear."""
    most = _MOST_WITH_THIRD if links.are_few else _MOST_COMPONENTS
    most = min(most, _shown(t_BKQ), len(public_BKQ) - 1, len(t_BKQ) - 1)
    public = measure_moments(public_BKQ, links, components=most)
    strong = int((public.variance_GR.mean(0) > max(_WEAKEST, code_noise)).sum())
    public = measure_moments(public_BKQ, links, components=max(1, strong)) if strong < most else public
    return public, measure_moments(t_BKQ, links, components=max(1, strong), code_noise=code_noise)


def _shown(t_BKQ: Tensor) -> int:
    """Values of a block that are ever other than 0: a transform codec cuts those away that never are."""
    return int(t_BKQ.abs().amax((0, 1)).count_nonzero())


def opened(t_BKQ: Tensor, turn_GRR: Tensor, public: BlockMoments, morphed: BlockMoments, links: Links) -> Tensor:
    """Network inputs' blocks x_BKQ."""
    opened_GQQ = morphed.into_GQR @ turn_GRR.mT @ public.back_GRQ
    return torch.einsum("bkq,kqp->bkp", t_BKQ - morphed.mean_KQ, opened_GQQ[links.core_K]) + public.mean_KQ


def _mirrored(
    turn_GRR: Tensor, public: BlockMoments, morphed: BlockMoments, links: Links, plan: RunPlan
) -> Tensor | None:
    """The fit of the mirrored world; None where a block is no run of whole rows."""
    geometry, scheme = plan.geometry, plan.morph.scheme()
    if scheme.layout is Layout.TILED or geometry.core_side % geometry.padded_width:
        return None
    places = torch.arange(geometry.core_side).view(-1, geometry.padded_width).flip(1).reshape(-1)
    mirror_GRR = public.back_GRQ[:, :, places] @ public.into_GQR
    return refined(orthogonal(mirror_GRR @ turn_GRR), public, morphed, links, _MIRROR_STEPS)


ATTACK = Attack.by(
    name="ciphertext-only",
    adversary=OUTSIDER,
    claim="recovers pictures from morphed pictures alone, by public pictures of the same kind",
    run=run,
    score=score,
)
