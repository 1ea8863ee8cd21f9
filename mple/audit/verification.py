"""The reading side: whether a trail is as it was written, and if not, the first line that is wrong and how.

A chain shows every change, removal, insertion and reordering of lines that another line follows. The last line, and
how many there were, only a head that was kept elsewhere can prove. A trail is read line by line, whoever wrote it.
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mple.audit.entry import FIRST_PREVIOUS, AuditEntry
from mple.disk.bounded import MEBIBYTE, UnsoundFileError, lines_bounded

_MOST_BYTES, _MOST_LINES = 1024 * MEBIBYTE, 10_000_000
"""Some four million lines as nodes write them."""


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
    """Check a trail from first line to last, and that a line hashes to `head` if given.

    Raises OSError: the file can't be read; UnsoundFileError: it has more than 1 GiB or 10,000,000 lines.
    """
    looked, torn, before, before_that = _Looked(), 0, FIRST_PREVIOUS, ""
    has_head = head is None or head.lower() == FIRST_PREVIOUS
    for line, sha256, torn in _lines(path):
        if torn:
            break
        entry = AuditEntry.from_line(line)
        number = len(looked.sequences) + 1
        looked.sequences.append(entry.sequence if entry is not None and 0 < entry.sequence <= _MOST_LINES else 0)
        if looked.place == number - 1 and looked.place:
            looked.following = entry
        if not looked.place and (entry is None or entry.sequence != number or entry.previous != before):
            looked.place, looked.entry, looked.hashes = number, entry, (before_that, before, sha256)
        before_that, before = before, sha256
        has_head = has_head or (head is not None and head.lower() == sha256)
    lines = len(looked.sequences)
    damage, line_number, why = _diagnosis(looked) if looked.place else (None, 0, "")
    if damage is None and torn:
        damage, line_number, why = Damage.TORN, lines + 1, f"{torn} bytes at the end are no whole line"
    if damage is None and not has_head:
        damage, line_number = Damage.HEAD_MISSING, lines
        why = f"no line hashes to {head}: the trail was cut off or written anew"
    return Verdict(path=path, lines=lines, head=before, damage=damage, line=line_number, why=why)


def read_entries(path: Path) -> Iterator[AuditEntry]:
    """The entries of a trail, unverified; lines that are none are left out. Raises as `verify`."""
    for line, _, _ in _lines(path):
        entry = AuditEntry.from_line(line)
        if entry is not None:
            yield entry


@dataclass(slots=True)
class _Looked:
    """What is kept of a trail while it is read: the first line that does not follow, and what its diagnosis needs."""

    sequences: "array[int]" = field(default_factory=lambda: array("l"))
    """What every line says that it is, 0 for none."""
    place: int = 0
    """Of the first line that is wrong, 0 while there is none."""
    entry: AuditEntry | None = None
    following: AuditEntry | None = None
    hashes: tuple[str, str, str] = ("", "", "")
    """Of the line before the one before it, of the one before it, and of itself."""

    @property
    def permuted(self) -> bool:
        """Whether the lines are all there, each once, in whatever order."""
        seen = bytearray(len(self.sequences) + 1)
        for sequence in self.sequences:
            if not 0 < sequence < len(seen) or seen[sequence]:
                return False
            seen[sequence] = 1
        return True


def _lines(path: Path) -> Iterator[tuple[bytes, str, int]]:
    """Each line without its end, its hash, and 0, or how many bytes there are of a last one that has no end. One that
    is too long to be any comes empty."""
    line, digest, size, count = b"", hashlib.sha256(), 0, 0
    for piece in lines_bounded(path, _MOST_BYTES):
        ended = piece.endswith(b"\n")
        content = piece[:-1] if ended else piece
        digest.update(content)
        line = content if size == 0 else b""
        size += len(piece)
        if ended:
            count += 1
            if count > _MOST_LINES:
                raise UnsoundFileError(f"{path} has more than {_MOST_LINES:,} lines; it is no audit trail of a node")
            yield line, digest.hexdigest(), 0
            line, digest, size = b"", hashlib.sha256(), 0
    if size:
        yield line, digest.hexdigest(), size


def _diagnosis(looked: _Looked) -> tuple[Damage, int, str]:
    """Name the damage that shows first."""
    number, entry, following = looked.place, looked.entry, looked.following
    before_that, before, _ = looked.hashes
    if entry is not None and entry.sequence != number and looked.permuted:
        return Damage.REORDERED, number, f"line {entry.sequence} of the trail stands here"
    if following is not None and (following.sequence, following.previous) == (number, before):
        return Damage.INSERTED, number, f"line {number + 1} goes on with line {number - 1}"
    if entry is None:
        return Damage.CHANGED, number, "it is no line of an audit trail"
    if entry.sequence == number:
        return _broken_link(looked)
    if number > 1 and (entry.sequence, entry.previous) == (number - 1, before_that):
        return Damage.INSERTED, number - 1, f"line {number} goes on with line {number - 2}"
    if entry.previous == before:
        return Damage.CHANGED, number, f"it says that it is line {entry.sequence}"
    if number in looked.sequences[number:]:
        return Damage.REORDERED, number, f"line {entry.sequence} of the trail stands here"
    if entry.sequence > number:
        return Damage.REMOVED, number, f"line {entry.sequence} of the trail follows on line {number - 1}"
    return Damage.INSERTED, number, f"it says that it is line {entry.sequence}"


def _broken_link(looked: _Looked) -> tuple[Damage, int, str]:
    """A line names another hash than that of the line before: one of the two was changed."""
    number, following = looked.place, looked.following
    if number == 1:
        return Damage.CHANGED, 1, "a first line names no line before it"
    if following is not None and following.previous != looked.hashes[2]:
        return Damage.CHANGED, number, f"neither does it name line {number - 1} nor does line {number + 1} name it"
    return Damage.CHANGED, number - 1, f"line {number} names other content"
