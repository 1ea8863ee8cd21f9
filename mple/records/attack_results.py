"""`attacks.json`: what the attacks on a run came to, as figures. An attack that is run again replaces its entry."""

from dataclasses import dataclass, replace
from pathlib import Path

from mple.disk.json_records import read_record, write_record
from mple.plan import RunPlan

ATTACKS = "attacks.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackFigure:
    """A number that an attack or its scoring came to."""

    name: str
    value: float | int | str | None
    """None where it is infinite: JSON has no infinity."""
    unit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredRow:
    """Pictures that one attack recovered in one way."""

    site: str
    way: str
    count: int
    ssim_mean: float
    ssim_least: float
    psnr_mean_db: float | None
    """None where all are equal to the originals."""
    share_recognised: float
    share_recovered: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackedWith:
    """How far an attack was to go."""

    site: str
    """The site under attack."""
    pictures: int
    """Most pictures to recover."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackRecord:
    """One attack."""

    name: str
    adversary: str
    """In words."""
    claim: str
    seconds: float
    applies: bool
    why_not: str = ""
    """Why it does not apply; empty where it does."""
    figures: tuple[AttackFigure, ...] = ()
    pictures: tuple[RecoveredRow, ...] = ()
    gallery: str | None = None
    """Path of its gallery from the file's folder, None where there is none."""
    public_pictures: str
    """Where the public pictures came from, in words."""
    settings: AttackedWith


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackRecords:
    """The whole file."""

    run_id: str
    plan_hash: str
    attacks: tuple[AttackRecord, ...] = ()


def read_attacks(path: Path, plan: RunPlan) -> AttackRecords:
    """The attacks on a plan's run; none where there is no file, or it is damaged or another run's."""
    none = AttackRecords(run_id=plan.run_id, plan_hash=plan.sha256().hex())
    try:
        found = read_record(AttackRecords, path)
    except (OSError, ValueError):
        return none
    return found if found.plan_hash == none.plan_hash else none


def keep_attack(path: Path, plan: RunPlan, attack: AttackRecord) -> None:
    """Put an attack into the file, whole; other attacks on the same run stay."""
    records = read_attacks(path, plan)
    entries = {one.name: one for one in records.attacks} | {attack.name: attack}
    write_record(path, replace(records, attacks=tuple(entries.values())))
