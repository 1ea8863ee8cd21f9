"""What `mple attack` has left in a run's folder, for its page: the figures of `attacks.json` and the galleries."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mple.plan import RunPlan

_NAME = "attacks.json"
_MOST_GALLERY_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredRow:
    """Pictures that one attack recovered in one way."""

    way: str
    count: int
    ssim_mean: float
    ssim_least: float
    psnr_mean_db: float | None
    """None where all are equal to the originals."""
    share_recovered: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackResult:
    """One entry of `attacks.json`."""

    name: str
    adversary: str
    claim: str
    seconds: float
    why_not: str
    """Why it does not apply; empty where it does."""
    pictures: tuple[RecoveredRow, ...]
    figures: tuple[tuple[str, str], ...]
    gallery: str
    """A data URI, or empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackResults:
    """All of them."""

    site: str
    public_pictures: str
    attacks: tuple[AttackResult, ...]


def attack_results(folder: Path, plan: RunPlan, *, pictures: bool) -> AttackResults | None:
    """The results in a run's folder; None where nobody has attacked it, or the file is damaged or another run's.

    Args:
        folder: Of the run.
        plan: Its plan.
        pictures: Take the galleries, which show pictures in the clear beside their morphed forms.
    """
    try:
        content = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        entries = content["attacks"]
        if content["plan_hash"] != plan.sha256().hex() or not entries:
            return None
        return AttackResults(
            site=", ".join(dict.fromkeys(str(entry["settings"]["site"]) for entry in entries)),
            public_pictures=str(entries[0]["public_pictures"]),
            attacks=tuple(_result(folder, entry, pictures) for entry in entries),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _result(folder: Path, entry: dict[str, Any], pictures: bool) -> AttackResult:
    return AttackResult(
        name=str(entry["name"]),
        adversary=str(entry["adversary"]),
        claim=str(entry["claim"]),
        seconds=float(entry["seconds"]),
        why_not=str(entry["why_not"]),
        pictures=tuple(
            RecoveredRow(
                way=str(one["way"]),
                count=int(one["count"]),
                ssim_mean=float(one["ssim_mean"]),
                ssim_least=float(one["ssim_least"]),
                psnr_mean_db=None if one["psnr_mean_db"] is None else float(one["psnr_mean_db"]),
                share_recovered=float(one["share_recovered"]),
            )
            for one in entry["pictures"]
        ),
        figures=tuple((str(one["name"]), _text(one["value"], str(one["unit"]))) for one in entry["figures"]),
        gallery=_gallery(folder, entry["gallery"]) if pictures and entry["gallery"] else "",
    )


def _text(value: object, unit: str) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "infinite" if value is None else str(value)
    return f"{text} {unit}".strip()


def _gallery(folder: Path, name: object) -> str:
    """Only from below the folder, whatever the file says."""
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
        return ""
    if path.stat().st_size > _MOST_GALLERY_BYTES:
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
