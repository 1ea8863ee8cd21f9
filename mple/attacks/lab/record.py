"""`attacks.json`: what the attacks on a run came to, as figures. An attack that is run again replaces its entry."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mple.attacks.lab.adversary import in_words
from mple.attacks.lab.attack import AttackSettings
from mple.attacks.lab.lab import Outcome
from mple.attacks.lab.scoring import PictureScore
from mple.disk.whole_files import write_whole
from mple.plan import RunPlan

NAME = "attacks.json"
SEEN_SSIM = 0.5
"""From here on a picture counts as recognised; 0.9 as recovered."""
RECOVERED_SSIM = 0.9


def write_record(
    path: Path, plan: RunPlan, settings: AttackSettings, outcome: Outcome, *, public: str, gallery: str | None
) -> None:
    """Put an outcome into the file, whole; entries of other attacks on the same run stay.

    Args:
        path: The file.
        plan: The run's plan.
        settings: As attacked.
        outcome: Of one attack.
        public: Where the public pictures come from, in words.
        gallery: The gallery's path from the file's folder, None where there is none.
    """
    entries = {entry["name"]: entry for entry in _earlier(path, plan)}
    entries[outcome.attack.name] = {
        **_entry(outcome),
        "gallery": gallery,
        "public_pictures": public,
        "settings": dataclasses.asdict(settings),
    }
    content = {"run_id": plan.run_id, "plan_hash": plan.sha256().hex(), "attacks": list(entries.values())}
    write_whole(path, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def _entry(outcome: Outcome) -> dict[str, Any]:
    attack, score = outcome.attack, outcome.score
    return {
        "name": attack.name,
        "adversary": in_words(attack.adversary),
        "claim": attack.claim,
        "seconds": round(outcome.seconds, 3),
        "applies": score is not None,
        "why_not": outcome.why_not,
        "figures": [
            {"name": figure.name, "value": _finite(figure.value), "unit": figure.unit}
            for figure in (score.figures if score else ())
        ],
        "pictures": [_pictures(one) for one in (score.pictures if score else ())],
    }


def _pictures(one: PictureScore) -> dict[str, Any]:
    return {
        "site": one.recovered.site,
        "way": one.recovered.way,
        "count": len(one.ssim_N),
        "ssim_mean": float(one.ssim_N.mean()),
        "ssim_least": float(one.ssim_N.min()),
        "psnr_mean_db": _finite(float(one.psnr_N.mean())),
        "share_recognised": float(np.mean(one.ssim_N >= SEEN_SSIM)),
        "share_recovered": float(np.mean(one.ssim_N >= RECOVERED_SSIM)),
    }


def _finite(value: float | int | str) -> float | int | str | None:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _earlier(path: Path, plan: RunPlan) -> list[dict[str, Any]]:
    """Entries of the same run; a damaged file or another run's is written anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["plan_hash"] != plan.sha256().hex():
            return []
        return [entry for entry in content["attacks"] if isinstance(entry["name"], str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
