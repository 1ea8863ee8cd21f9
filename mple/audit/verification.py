"""The reading side: whether a trail is as it was written, and if not, the first line that is wrong and how.

A chain shows every change, removal, insertion and reordering of lines that another line follows. The last line, and
how many there were, only a head that was kept elsewhere can prove.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.audit.entry import FIRST_PREVIOUS, AuditEntry, line_sha256


class Damage(StrEnum):
    """What was done to a trail."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TORN = "torn"
    HEAD_MISSING = "head missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What `verify` found."""

    path: Path
    lines: int
    head: str
    """Hash of the last line; 64 zeros for an empty trail."""
    damage: Damage | None = None
    line: int = 0
    """The first bad line, from 1."""
    why: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.damage is None


def verify(path: Path, head: str | None = None) -> Verdict:
    """Check a trail from first line to last, and that a line hashes to `head` if given; OSError if unreadable."""
    content = path.read_bytes()
    lines = content.split(b"\n")
    torn = lines.pop()
    hashes = [line_sha256(line) for line in lines]
    newest = hashes[-1] if hashes else FIRST_PREVIOUS
    damage, line, why = _first_damage(lines, hashes) or (None, 0, "")
    if damage is None and torn:
        damage, line, why = Damage.TORN, len(lines) + 1, f"{len(torn)} bytes at the end are no whole line"
    if damage is None and head is not None and head.lower() not in {FIRST_PREVIOUS, *hashes}:
        damage, line = Damage.HEAD_MISSING, len(lines)
        why = f"no line hashes to {head}: the trail was cut off or written anew"
    return Verdict(path=path, lines=len(lines), head=newest, damage=damage, line=line, why=why)


def read_entries(path: Path) -> Iterator[AuditEntry]:
    """The entries of a trail, unverified; lines that are none are left out. OSError when the file can't be read."""
    for line in path.read_bytes().split(b"\n"):
        entry = AuditEntry.from_line(line)
        if entry is not None:
            yield entry


def _first_damage(lines: list[bytes], hashes: list[str]) -> tuple[Damage, int, str] | None:
    entries = [AuditEntry.from_line(line) for line in lines]
    before = FIRST_PREVIOUS
    for number, entry in enumerate(entries, start=1):
        if entry is None or entry.sequence != number or entry.previous != before:
            return _diagnosis(number, entries, [FIRST_PREVIOUS, *hashes])
        before = hashes[number - 1]
    return None


def _diagnosis(number: int, entries: list[AuditEntry | None], hashes: list[str]) -> tuple[Damage, int, str]:
    """Name the damage that shows first at line `number`; `hashes[i]` is that of line i, `hashes[0]` the zeros."""
    entry = entries[number - 1]
    following = entries[number] if number < len(entries) else None
    numbers = sorted(0 if each is None else each.sequence for each in entries)
    if entry is not None and entry.sequence != number and numbers == list(range(1, len(entries) + 1)):
        return Damage.REORDERED, number, f"line {entry.sequence} of the trail stands here"
    if following is not None and (following.sequence, following.previous) == (number, hashes[number - 1]):
        return Damage.INSERTED, number, f"line {number + 1} goes on with line {number - 1}"
    if entry is None:
        return Damage.CHANGED, number, "it is no line of an audit trail"
    if entry.sequence == number:
        return _broken_link(number, following, hashes)
    if number > 1 and (entry.sequence, entry.previous) == (number - 1, hashes[number - 2]):
        return Damage.INSERTED, number - 1, f"line {number} goes on with line {number - 2}"
    if entry.previous == hashes[number - 1]:
        return Damage.CHANGED, number, f"it says that it is line {entry.sequence}"
    if any(later is not None and later.sequence == number for later in entries[number:]):
        return Damage.REORDERED, number, f"line {entry.sequence} of the trail stands here"
    if entry.sequence > number:
        return Damage.REMOVED, number, f"line {entry.sequence} of the trail follows on line {number - 1}"
    return Damage.INSERTED, number, f"it says that it is line {entry.sequence}"


def _broken_link(number: int, following: AuditEntry | None, hashes: list[str]) -> tuple[Damage, int, str]:
    """Line `number` names another hash than that of the line before: one of the two was changed."""
    if number == 1:
        return Damage.CHANGED, 1, "a first line names no line before it"
    if following is not None and following.previous != hashes[number]:
        return Damage.CHANGED, number, f"neither does it name line {number - 1} nor does line {number + 1} name it"
    return Damage.CHANGED, number - 1, f"line {number} names other content"
