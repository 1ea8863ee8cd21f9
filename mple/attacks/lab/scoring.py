"""A finding held against the truth: pictures by PSNR and SSIM, cores by their error, orders place by place.

Legend: N pictures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.attacks.lab.attack import Attack, Figure, Finding, RecoveredPictures
from mple.attacks.lab.ground_truth import GroundTruth
from mple.privacy.picture_scores import psnr, ssim


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureScore:
    """How near recovered pictures come to the real ones."""

    recovered: RecoveredPictures
    psnr_N: NDArray[np.float64]
    """In dB."""
    ssim_N: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a finding is worth."""

    pictures: tuple[PictureScore, ...]
    """One for each entry of `Finding.recovered`."""
    figures: tuple[Figure, ...]
    """What the adversary can tell itself, then what only the truth tells."""


def score(attack: Attack, finding: Finding, truth: GroundTruth) -> Score:
    """What a finding is worth beside the truth."""
    own = () if attack.score is None else tuple(attack.score(finding, truth))
    return Score(
        pictures=tuple(_pictures(recovered, truth) for recovered in finding.recovered),
        figures=(*finding.figures, *_order(finding, truth), *_cores(finding, truth), *own),
    )


def _pictures(recovered: RecoveredPictures, truth: GroundTruth) -> PictureScore:
    real_NCHW = truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return PictureScore(
        recovered=recovered,
        psnr_N=psnr(recovered.pixels_NCHW, real_NCHW),
        ssim_N=ssim(recovered.pixels_NCHW, real_NCHW),
    )


def _order(finding: Finding, truth: GroundTruth) -> list[Figure]:
    if finding.channel_order_F is None:
        return []
    right = int((finding.channel_order_F == truth.channel_order_F).sum())
    return [Figure("channels in their right place", f"{right}/{len(truth.channel_order_F)}")]


def _cores(finding: Finding, truth: GroundTruth) -> list[Figure]:
    figures = []
    for site, inverse_KQQ in finding.inverse_cores.items():
        real_KQQ = truth.inverse_cores(site)
        error = float((inverse_KQQ - real_KQQ).norm() / real_KQQ.norm())
        figures.append(Figure(f"relative error of the key of {site}", error))
    return figures
