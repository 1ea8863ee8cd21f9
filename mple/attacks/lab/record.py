"""What came of an attack, as the record that is kept of it."""

import dataclasses
import math

import numpy as np

from mple.attacks.lab.attack import AttackSettings
from mple.attacks.lab.lab import AttackOutcome
from mple.attacks.lab.scoring import PictureScore
from mple.records.attack_results import AttackedWith, AttackFigure, AttackRecord, RecoveredRow

SEEN_SSIM = 0.5
"""From here on a picture counts as recognised; 0.9 as recovered."""
RECOVERED_SSIM = 0.9


def record_of(settings: AttackSettings, outcome: AttackOutcome, *, public: str, gallery: str | None) -> AttackRecord:
    """The record of one attack.

    Args:
        settings: As attacked.
        outcome: Of the attack.
        public: Where the public pictures come from, in words.
        gallery: The gallery's path from the record's folder, None where there is none.
    """
    attack, score = outcome.attack, outcome.score
    return AttackRecord(
        name=attack.name,
        adversary=attack.adversary,
        claim=attack.claim,
        seconds=round(outcome.seconds, 3),
        applies=score is not None,
        why_not=outcome.why_not,
        figures=tuple(
            AttackFigure(name=figure.name, value=_finite(figure.value), unit=figure.unit)
            for figure in (score.figures if score else ())
        ),
        pictures=tuple(_row(one) for one in (score.pictures if score else ())),
        gallery=gallery,
        public_pictures=public,
        settings=AttackedWith(**dataclasses.asdict(settings)),
    )


def _row(one: PictureScore) -> RecoveredRow:
    psnr_db = float(one.psnr_N.mean())
    return RecoveredRow(
        site=one.recovered.site,
        way=one.recovered.way,
        count=len(one.ssim_N),
        ssim_mean=float(one.ssim_N.mean()),
        ssim_least=float(one.ssim_N.min()),
        psnr_mean_db=psnr_db if math.isfinite(psnr_db) else None,
        share_recognised=float(np.mean(one.ssim_N >= SEEN_SSIM)),
        share_recovered=float(np.mean(one.ssim_N >= RECOVERED_SSIM)),
    )


def _finite(value: float | int | str) -> float | int | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
