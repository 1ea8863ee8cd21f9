"""What `mple attack` has left in a run's folder, for its page: the figures of `attacks.json` and the galleries."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from mple.plan import RunPlan
from mple.records.attack_results import ATTACKS, AttackFigure, AttackRecord, read_attacks

_MOST_GALLERY_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackResult:
    """One attack."""

    record: AttackRecord
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
    records = read_attacks(folder / ATTACKS, plan).attacks
    if not records:
        return None
    return AttackResults(
        site=", ".join(dict.fromkeys(record.settings.site for record in records)),
        public_pictures=records[0].public_pictures,
        attacks=tuple(
            AttackResult(
                record=record,
                figures=tuple((figure.name, _text(figure)) for figure in record.figures),
                gallery=_gallery(folder, record.gallery) if pictures and record.gallery else "",
            )
            for record in records
        ),
    )


def _text(figure: AttackFigure) -> str:
    value = figure.value
    text = f"{value:.4g}" if isinstance(value, float) else "infinite" if value is None else str(value)
    return f"{text} {figure.unit}".strip()


def _gallery(folder: Path, name: str) -> str:
    """Only from below the folder, whatever the file says."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
        return ""
    if path.stat().st_size > _MOST_GALLERY_BYTES:
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
