"""`class_counts.json`: the sum over sites by which the compute node weights classes, so that a restart does alike."""

from dataclasses import dataclass
from pathlib import Path

from mple.disk.json_records import read_record, write_record
from mple.model.class_weights import ClassCounts
from mple.records.state_files import CLASS_COUNTS

_FIX = "put the file back as it was, or remove it: the sites tell their counts again"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    plan_sha256: str
    having: tuple[int, ...]
    known: tuple[int, ...]


def kept_class_counts(state: Path, plan_sha256: str) -> ClassCounts | None:
    """Those of a plan, in the permuted order, if they are there.

    Raises OSError: the file can't be read; ValueError: it is damaged.
    """
    path = state / CLASS_COUNTS
    record = read_record(_Record, path, _FIX) if path.exists() else None
    if record is None or record.plan_sha256 != plan_sha256:
        return None
    return ClassCounts(having=record.having, known=record.known)


def keep_class_counts(state: Path, plan_sha256: str, counts: ClassCounts) -> None:
    """They are on the disk when this returns."""
    write_record(state / CLASS_COUNTS, _Record(plan_sha256=plan_sha256, having=counts.having, known=counts.known))
