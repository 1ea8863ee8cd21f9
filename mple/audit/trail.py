"""The writing side: one line, one write, on the disk before `audit` returns.

The file is append-only by habit, not by force. Every write happens under the file's lock and behind the newest line
that is really there, so commands that run beside the node (a prediction, a revocation) go on with the same chain.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mple.audit.call_tally import ACCEPTED, REFUSED, CallTally
from mple.audit.entry import FIRST_PREVIOUS, AuditEntry, Fact, line_sha256, tidy
from mple.audit.verification import Damage, verify
from mple.disk.damage import DamagedError
from mple.disk.locks import turn
from mple.disk.whole_files import fsync_folder, write_whole
from mple.per_node import PerNode
from mple.printable import printable

FILE_NAME = "audit.jsonl"
_TAIL_BYTES = 1 << 16
_MOST_NAME = 200
_open_trail: PerNode[AuditTrail | None] = PerNode(None)


def open_audit(state_folder: Path, node_label: str) -> AuditTrail:
    """Send the audit events of this node to `state_folder/audit.jsonl` until `close_audit`, behind what is there.

    A last line that was torn (the process was killed within the write, or power failed) is moved into a file of its
    own beside the trail, and an event `torn_line` says so.

    Raises OSError: the file can't be read or written; DamagedError: its lines are not those that were written.
    """
    path = state_folder / FILE_NAME
    if path.exists():
        verdict = verify(path)
        if verdict.damage not in (None, Damage.TORN):
            raise _damaged(path, f"is damaged in line {verdict.line} ({verdict.damage}): {verdict.why}")
    trail = AuditTrail(path, node_label)
    close_audit()
    _open_trail.set(trail)
    return trail


def close_audit() -> None:
    """Write no more events; a second call does nothing."""
    trail = _open_trail.get()
    _open_trail.set(None)
    if trail is not None:
        trail.close()


def audit(who: str, what: str, result: str, **facts: Fact) -> None:
    """Append an event to this node's trail; without an open trail it does nothing.

    Guarantees: When it returns, the line is on the disk. When it raises, the event is not in the trail, and what it
    was to record must not happen. May be called from any of the node's threads.

    Args:
        who: The party by its certificate ("site/north"), or "local".
        what: A fixed snake_case word.
        result: "ok" or an error code.
        facts: What else there is to know. Never secrets, labels or pictures.

    Raises OSError: the line could not be written.
    """
    trail = _open_trail.get()
    if trail is not None:
        trail.append(who, what, result, **facts)


def audit_call(who: str, what: str, result: str, **facts: Fact) -> bool:
    """Enter a call that was accepted as `audit` does: what a caller can repeat at will. Beyond `ACCEPTED` of a caller
    it is counted, and told in a sum. Returns whether there is a line, so that the log says no more than the trail."""
    trail = _open_trail.get()
    return trail is None or trail.calls.enter(who, what, result, **facts)


def audit_refusal(who: str, result: str, **facts: Fact) -> bool:
    """Enter a refused call, likewise; `REFUSED` are the lines that a caller may have."""
    trail = _open_trail.get()
    return trail is None or trail.refusals.enter(who, "refused", result, **facts)


def refusals() -> dict[tuple[str, str], int]:
    """How many calls have been refused since the trail was opened, by caller and result."""
    trail = _open_trail.get()
    return {} if trail is None else trail.refusals.counts()


def audit_head() -> AuditHead | None:
    """The newest line of this node's trail, for others to keep; None without an open trail."""
    trail = _open_trail.get()
    return None if trail is None else trail.head


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Which line is the newest."""

    sequence: int
    sha256: str


class AuditTrail:
    """One file of audit events."""

    def __init__(self, path: Path, node: str) -> None:
        """Open or make the file; see `open_audit`."""
        self._path, self._node = path, node
        self.refusals, self.calls = CallTally(self.append, REFUSED), CallTally(self.append, ACCEPTED)
        self._turn = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._head, self._end_bytes = AuditHead(0, FIRST_PREVIOUS), 0
        try:
            os.fchmod(self._file, 0o600)
            fsync_folder(path.parent)
            with turn(self._file):
                self._catch_up()
        except BaseException:
            os.close(self._file)
            raise

    @property
    def head(self) -> AuditHead:
        """The newest line that this process knows of."""
        with self._turn:
            return self._head

    def append(self, who: str, what: str, result: str, **facts: Fact) -> None:
        """As `audit`."""
        with self._turn:
            if self._file < 0:
                raise OSError(errno.EBADF, "the audit trail is closed; an event came after it", str(self._path))
            with turn(self._file):
                self._catch_up()
                self._write(who, what, result, facts)

    def tell_rest(self) -> None:
        """Write the sums of calls that are not told yet, at the node's end; OSError as `audit`."""
        self.refusals.tell_rest()
        self.calls.tell_rest()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._turn:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _catch_up(self) -> None:
        """Take in what other processes have written, and mend a line that one of them left torn."""
        size = os.fstat(self._file).st_size
        if size == self._end_bytes and size > 0:
            return
        last, self._end_bytes = self._last_line(size)
        self._head = AuditHead(0, FIRST_PREVIOUS)
        if last is not None:
            entry = AuditEntry.from_line(last)
            if entry is None:
                raise _damaged(self._path, "is damaged in its last line: it is no line of an audit trail")
            self._head = AuditHead(entry.sequence, line_sha256(last))
        aside = self._path.with_name(f"audit.torn-{self._head.sequence + 1}")
        if size > self._end_bytes:
            self._move_aside(aside, size)
        if aside.exists():
            # Also when the process was killed after the move: the file's name says which line it should have been.
            torn = aside.read_bytes()
            self._write("local", "torn_line", "ok", {"moved_to": aside.name, "bytes": len(torn)})

    def _last_line(self, size: int) -> tuple[bytes | None, int]:
        """The last whole line, and where it ends, newline included."""
        tail, start = b"", size
        while start > 0:
            step = min(_TAIL_BYTES, start)
            start -= step
            tail = os.pread(self._file, step, start) + tail
            whole, newline, _ = tail.rpartition(b"\n")
            if newline and (start == 0 or b"\n" in whole):
                return whole.rpartition(b"\n")[2], start + len(whole) + 1
        return None, 0

    def _move_aside(self, aside: Path, size: int) -> None:
        torn = os.pread(self._file, size - self._end_bytes, self._end_bytes)
        write_whole(aside, (aside.read_bytes() if aside.exists() else b"") + torn)
        os.ftruncate(self._file, self._end_bytes)

    def _write(self, who: str, what: str, result: str, facts: dict[str, Fact]) -> None:
        entry = AuditEntry(
            sequence=self._head.sequence + 1,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            node=self._node,
            who=printable(who, _MOST_NAME),
            what=printable(what, _MOST_NAME),
            result=printable(result, _MOST_NAME),
            facts=tidy(facts),
            previous=self._head.sha256,
        )
        line = entry.to_line()
        try:
            # What the system takes only in part has failed: no room was left for the rest.
            if os.pwrite(self._file, line + b"\n", self._end_bytes) <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as fault:
            os.ftruncate(self._file, self._end_bytes)
            text = f"the audit trail can't be written: {fault.strerror}"
            raise OSError(fault.errno, text, str(self._path)) from fault
        self._head = AuditHead(entry.sequence, line_sha256(line))
        self._end_bytes += len(line) + 1


def _damaged(path: Path, what: str) -> DamagedError:
    fix = f"see `mple audit verify {path}`; put the file back, or keep it elsewhere as evidence and begin a new trail"
    return DamagedError(path, what, fix)
