"""Pictures from the codes of one, ten, a hundred or a thousand pictures of one key, with public pictures of their kind.

An outsider knows the codec, and with it what a code is: under `qN` a tile under one unknown orthogonal core, under
`kN` the tile's coefficients along its principal directions, turned within bands whose widths are no secret
(`mple.morph.basis`). Either is a rotation within known bands of what public pictures tell, which
`mple.attacks.means.band_fit` finds.

How many components to believe in the adversary finds out beforehand, on public pictures under a key of its own. What
it cannot tell so well is the sign of all of it; negatives are scored, too, for who looks at them can.

Legend: B pictures, N recovered ones, K tiles, Q core side, R components.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding, RecoveredPictures
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER
from mple.attacks.means.band_fit import fit_bands
from mple.attacks.means.blocks import blocks_of, pictures_of
from mple.attacks.means.picture_prior import PicturePrior, measure_prior
from mple.attacks.means.pixel_values import to_pixels, with_planned_noise
from mple.morph import Cores, Ensemble, Layout
from mple.morph.basis import bands
from mple.plan import RunPlan
from mple.privacy.picture_scores import ssim
from mple.wire.codecs import codec_named

COUNTS = (1, 10, 100, 1000)
"""Pictures of one key that are opened together."""
_GROUPS = {1: 6, 10: 2}
"""How often fewer are opened, other pictures each time; otherwise once."""
_REHEARSALS = {1: 3}
_MOST_COMPONENTS, _MOST_COEFFICIENTS = 36, 1600
"""Of a picture, for one precision matrix."""
_CHAINS, _CHAINS_OF_MANY, _MANY = 12, 4, 100
_MOST_PUBLIC = 8000


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Open some pictures alone, others together.

    Raises DoesNotApplyError: not all blocks are tiles under one orthogonal core, or there are few public pictures.
    """
    plan, scheme = view.plan, view.plan.morph.scheme()
    if scheme.layout is not Layout.TILED or scheme.ensemble is not Ensemble.ORTHOGONAL:
        raise DoesNotApplyError("made for tiles under orthogonal cores; others attack what there is")
    if scheme.cores is not Cores.IDENTICAL:
        raise DoesNotApplyError("every place has a core of its own, of which a picture shows one tile")
    if len(view.public_PCHW) < 100 or not len(view.morphed):
        raise DoesNotApplyError(f"{len(view.public_PCHW)} public pictures are too few")
    c_BKQ, widths = view.morphed.t_NKQ, band_widths(view.morphed.t_NKQ, plan)
    noise = codec_named(plan.wire.codec).rounding_deviation ** 2
    public_PKQ = blocks_of(with_planned_noise(view.public_PCHW[:_MOST_PUBLIC], plan), plan)
    prior = measure_prior(public_PKQ, components=components_of(c_BKQ, widths), code_noise=noise)
    recovered, claims, figures = [], {}, []
    for together in (one for one in COUNTS if one <= len(c_BKQ)):
        believed = _rehearsed(public_PKQ, prior, widths, together, plan)
        shown, numbers, groups = [], [], []
        for group, low in enumerate(range(0, min(len(c_BKQ), together * _GROUPS.get(together, 1)), together)):
            places = slice(low, low + together)
            x_BKQ = prior.tiles(opened(c_BKQ[places], prior, widths, seed=settings.seed)[believed], believed)
            some = x_BKQ[: settings.pictures]
            shown.append(to_pixels(pictures_of(some, plan), plan.normalisation))
            numbers.append(view.morphed.numbers_N[places][: settings.pictures])
            groups += [group] * len(some)
        way = f"{together:,} at a time"
        figures.append(Figure(f"components believed in, {way}", f"{believed} of {c_BKQ.shape[2]}"))
        claims[way] = np.array(groups)
        recovered.append(
            RecoveredPictures(
                site=view.morphed.site,
                numbers_N=np.concatenate(numbers),
                pixels_NCHW=np.concatenate(shown),
                way=way,
            )
        )
    return Finding(recovered=tuple(recovered), claims=claims, figures=tuple(figures))


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """How good the pictures are if who looks at them may take negatives, one choice for all opened together."""
    figures = []
    for recovered in finding.recovered:
        real_NCHW = truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
        own_N, other_N = (ssim(shown, real_NCHW) for shown in (recovered.pixels_NCHW, 255 - recovered.pixels_NCHW))
        groups_N = finding.claims[recovered.way]
        best = [max(own_N[groups_N == group].sum(), other_N[groups_N == group].sum()) for group in np.unique(groups_N)]
        figures.append(Figure(f"mean SSIM with the right sign, {recovered.way}", round(sum(best) / len(own_N), 4)))
    return figures


def band_widths(c_BKQ: Tensor, plan: RunPlan) -> list[int]:
    """Widths of the bands that codes are turned within: all of it for an orthogonal core alone. Bands go by variances,
    which a rotation keeps; what few codes do not tell of them the numbers do that codes are unpacked with."""
    if not codec_named(plan.wire.codec).needs_coding:
        return [c_BKQ.shape[2]]
    rows_Nd = c_BKQ[:, :, : int(c_BKQ.abs().amax((0, 1)).nonzero().max()) + 1].flatten(0, 1).double()
    variance_d = torch.linalg.eigvalsh(rows_Nd.T @ rows_Nd / len(rows_Nd)).flip(0)
    return [high - low for low, high in bands(variance_d.clamp(min=0).numpy())]


def components_of(c_BKQ: Tensor, widths: Sequence[int]) -> int:
    """R: as many as can be fitted."""
    return max(1, min(_MOST_COMPONENTS, _MOST_COEFFICIENTS // c_BKQ.shape[1], sum(widths)))


def opened(c_BKQ: Tensor, prior: PicturePrior, widths: Sequence[int], *, seed: int) -> Mapping[int, Tensor]:
    """Coefficients z_BKr by r, of pictures of one key."""
    chains = _CHAINS_OF_MANY if len(c_BKQ) >= _MANY else _CHAINS
    return fit_bands(c_BKQ, prior, widths, chains=chains, seed=seed)


def _rehearsed(public_PKQ: Tensor, prior: PicturePrior, widths: Sequence[int], together: int, plan: RunPlan) -> int:
    """How many components gave the best pictures when public ones were opened."""
    together = min(together, len(public_PKQ))
    scores: dict[int, float] = {}
    for x_BKQ, c_BKQ in _rehearsals(public_PKQ, prior, widths, together, plan):
        real_NCHW = to_pixels(pictures_of(x_BKQ[:_MANY], plan), plan.normalisation)
        for count, z_BKr in opened(c_BKQ, prior, widths, seed=1).items():
            shown_NCHW = to_pixels(pictures_of(prior.tiles(z_BKr[:_MANY], count), plan), plan.normalisation)
            either = max(float(ssim(one, real_NCHW).mean()) for one in (shown_NCHW, 255 - shown_NCHW))
            scores[count] = scores.get(count, 0.0) + either
    return max(scores, key=lambda count: scores[count])


def _rehearsals(
    public_PKQ: Tensor, prior: PicturePrior, widths: Sequence[int], together: int, plan: RunPlan
) -> Iterator[tuple[Tensor, Tensor]]:
    """Public pictures, and codes of theirs under keys of the adversary's own."""
    dice = torch.Generator().manual_seed(7)
    deviation = codec_named(plan.wire.codec).rounding_deviation
    for _ in range(_REHEARSALS.get(together, 1)):
        x_BKQ = public_PKQ[torch.randperm(len(public_PKQ), generator=dice)[:together]]
        c_BKQ, low = x_BKQ @ prior.into_QQ, 0
        for width in widths:
            turn_ww = torch.linalg.qr(torch.randn(width, width, generator=dice))[0]
            c_BKQ[:, :, low : low + width] = c_BKQ[:, :, low : low + width] @ turn_ww
            low += width
        c_BKQ[:, :, low:] = 0
        yield x_BKQ, c_BKQ + deviation * torch.randn(c_BKQ.shape, generator=dice)


ATTACK = Attack.by(
    name="few-pictures",
    adversary=OUTSIDER,
    claim="recovers pictures from the codes of 1, 10, 100 and 1,000 pictures of one key, by public pictures",
    run=run,
    score=score,
)
