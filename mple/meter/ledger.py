"""A node's ledger: one row per message, in SQLite, committed before `record` returns.

A message is entered before it is sent, and before whoever receives it acts on it; so a process that is killed has
every message in its books that another can have in theirs. A commit costs some 30 microseconds: it waits for the
operating system, not for the disk. A power cut may cost the last rows, never the file.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.meter.facts import MessageFacts

GRPC_PREFIX_BYTES = 5
"""Length prefix that gRPC puts before each message (gRPC over HTTP/2, section "Length-Prefixed-Message")."""
_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    time_unix_ns INTEGER NOT NULL, node TEXT NOT NULL, run TEXT NOT NULL, phase TEXT NOT NULL, peer TEXT NOT NULL,
    direction TEXT NOT NULL, method TEXT NOT NULL, kind TEXT NOT NULL, call_id TEXT NOT NULL, idx INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL, label_bytes INTEGER NOT NULL, serialized_bytes INTEGER NOT NULL,
    framed_bytes INTEGER NOT NULL, samples INTEGER NOT NULL, resent_samples INTEGER NOT NULL, key_ref TEXT NOT NULL
)
"""
_INSERT = f"INSERT INTO messages VALUES ({','.join('?' * 17)})"  # noqa: S608


class Direction(StrEnum):
    """As the node sees it."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One message at one end."""

    time_unix_ns: int
    direction: Direction
    peer: str
    method: str
    call_id: str
    index: int
    """Place among the call's messages of this direction, from 0."""
    facts: MessageFacts
    serialized_bytes: int

    @property
    def framed_bytes(self) -> int:
        """With gRPC's prefix."""
        return self.serialized_bytes + GRPC_PREFIX_BYTES


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """Sums over a ledger, framed bytes."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int


class Ledger:
    """The books of one node, for any number of threads. Opening an existing file goes on with it."""

    def __init__(self, path: Path, node: str) -> None:
        """Open or make the file.

        Raises:
            ValueError: The file is of another version of this program.
            OSError: The disk refuses.
        """
        self._node, self._path = node, path
        self._run = self._phase = ""
        self._lock = threading.Lock()
        self._closed = False
        self._fault: OSError | None = None
        try:
            self._connection = _open(path)
            self._totals = self._stored_totals()
        except sqlite3.OperationalError as fault:
            raise self._unwritable(fault) from fault

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fault(self) -> OSError | None:
        """Why the ledger can't be written any more. gRPC swallows what is raised within it: nodes look here, too."""
        return self._fault

    def set_run(self, run_id: str) -> None:
        """Stamp entries from now on with a run."""
        with self._lock:
            self._run = run_id

    def set_phase(self, phase: str) -> None:
        """Stamp entries from now on with a phase."""
        with self._lock:
            self._phase = phase

    def record(self, entry: LedgerEntry) -> None:
        """Enter one message; it is in the file when this returns.

        Raises:
            OSError: This write or an earlier one failed, or the ledger is closed.
        """
        facts = entry.facts
        with self._lock:
            if self._closed:
                raise OSError("the ledger is closed; a message came after it")
            if self._fault is not None:
                raise self._fault
            row = (
                entry.time_unix_ns,
                self._node,
                self._run,
                self._phase,
                entry.peer,
                entry.direction.value,
                entry.method,
                facts.kind.value,
                entry.call_id,
                entry.index,
                facts.payload_bytes,
                facts.label_bytes,
                entry.serialized_bytes,
                entry.framed_bytes,
                facts.samples,
                facts.resent_samples,
                facts.key_ref,
            )
            try:
                self._connection.execute(_INSERT, row)
            except sqlite3.Error as fault:
                self._fault = self._unwritable(fault)
                raise self._fault from fault
            totals = self._totals
            sent = entry.direction is Direction.SENT
            self._totals = LedgerTotals(
                totals.messages_sent + sent,
                totals.messages_received + (not sent),
                totals.bytes_sent + entry.framed_bytes * sent,
                totals.bytes_received + entry.framed_bytes * (not sent),
            )

    def totals(self) -> LedgerTotals:
        """Sums over all entries so far, those of earlier processes included."""
        with self._lock:
            return self._totals

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def _unwritable(self, fault: sqlite3.Error) -> OSError:
        number = errno.ENOSPC if getattr(fault, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL else errno.EIO
        return OSError(number, f"the ledger can't be written: {fault}", str(self._path))

    def _stored_totals(self) -> LedgerTotals:
        sums = dict.fromkeys(("sent", "received"), (0, 0))
        for direction, count, size in self._connection.execute(
            "SELECT direction, COUNT(*), SUM(framed_bytes) FROM messages GROUP BY direction"
        ):
            sums[direction] = (count, size)
        return LedgerTotals(sums["sent"][0], sums["received"][0], sums["sent"][1], sums["received"][1])


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, _VERSION):
        connection.close()
        raise ValueError(f"ledger {path} has version {version}, this program writes {_VERSION}; use a new state folder")
    connection.execute(_SCHEMA)
    connection.execute(f"PRAGMA user_version={_VERSION}")
    return connection
