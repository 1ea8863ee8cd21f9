"""A node's ledger: one row per message, in SQLite, committed before `record` returns.

A message is entered before it is sent, and before whoever receives it acts on it; so a process that is killed has
every message in its ledger that another party can have in its own. A commit costs some 30 microseconds: it waits for
the operating system, not for the disk. A power cut may cost the last rows, never the file.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.disk.damage import DamagedError
from mple.disk.private import private_file
from mple.disk.scarcity import scarcity_of
from mple.meter.facts import SAMPLE_KINDS, MessageFacts

GRPC_PREFIX_BYTES = 5
"""Length prefix that gRPC puts before each message (gRPC over HTTP/2, section "Length-Prefixed-Message")."""
_VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    time_unix_ns INTEGER NOT NULL, node TEXT NOT NULL, run TEXT NOT NULL, phase TEXT NOT NULL, peer TEXT NOT NULL,
    direction TEXT NOT NULL, method TEXT NOT NULL, kind TEXT NOT NULL, call_id TEXT NOT NULL, idx INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL, label_bytes INTEGER NOT NULL, serialized_bytes INTEGER NOT NULL,
    framed_bytes INTEGER NOT NULL, samples INTEGER NOT NULL, resent_samples INTEGER NOT NULL, key_ref TEXT NOT NULL
)
"""
"""Of a node's ledger, and of several merged."""
INDEX = "CREATE INDEX by_message ON messages (call_id, idx, direction)"
"""Of several merged."""
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


@dataclass(frozen=True, slots=True)
class MessageClass:
    """Which messages a tally is of."""

    method: str
    kind: str
    direction: Direction
    peer: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the messages of one class."""

    messages: int = 0
    framed_bytes: int = 0
    payload_bytes: int = 0
    """Codes, layer bytes, or logits."""
    samples: int = 0


class Ledger:
    """The ledger of one node, for any number of threads. Opening an existing file goes on with it."""

    def __init__(self, path: Path, node: str) -> None:
        """Open or make the file.

        Raises ValueError: the file is of another version of this program; DamagedError: it is damaged; OSError: the
        disk refuses.
        """
        self._node, self._path = node, path
        self.run = self.phase = ""
        """What entries are stamped with from now on; empty before there is a run, or a phase."""
        self._lock = threading.Lock()
        self._closed = False
        self._fault: OSError | None = None
        try:
            self._connection = _open(path)
            self._tallies = self._stored_tallies()
            self._require_whole()
        except sqlite3.DatabaseError as fault:
            if not isinstance(fault, sqlite3.OperationalError):
                raise self._damaged(str(fault)) from None
            if scarcity_of(fault) is not None:
                raise
            raise self._unwritable(fault) from fault

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, entry: LedgerEntry) -> None:
        """Enter one message; it is in the file when this returns.

        Raises OSError: this write or an earlier one failed, or the ledger is closed.
        """
        facts = entry.facts
        with self._lock:
            if self._closed:
                raise OSError("the ledger is closed; a message came after it")
            if self._fault is not None:
                raise self._fault
            stamp = (entry.time_unix_ns, self._node, self.run, facts.phase or self.phase, entry.peer)
            message = (entry.direction.value, entry.method, str(facts.kind), entry.call_id, entry.index)
            sizes = (facts.payload_bytes, facts.label_bytes, entry.serialized_bytes, entry.framed_bytes)
            samples = (facts.samples, facts.resent_samples, facts.key_ref)
            try:
                self._connection.execute(_INSERT, (*stamp, *message, *sizes, *samples))
            except sqlite3.Error as fault:
                if scarcity_of(fault) is not None:
                    raise  # it may pass
                self._fault = self._unwritable(fault)
                raise self._fault from fault
            of = MessageClass(entry.method, str(facts.kind), entry.direction, entry.peer)
            so_far = self._tallies.get(of, Tally())
            self._tallies[of] = Tally(
                so_far.messages + 1,
                so_far.framed_bytes + entry.framed_bytes,
                so_far.payload_bytes + facts.payload_bytes,
                so_far.samples + facts.samples,
            )

    def tallies(self) -> dict[MessageClass, Tally]:
        """Sums over all entries so far by class, those of earlier processes included."""
        with self._lock:
            return dict(self._tallies)

    def totals(self) -> LedgerTotals:
        """Sums over all entries so far, those of earlier processes included."""
        tallies = self.tallies().items()
        sent = [tally for of, tally in tallies if of.direction is Direction.SENT]
        received = [tally for of, tally in tallies if of.direction is Direction.RECEIVED]
        return LedgerTotals(
            sum(tally.messages for tally in sent),
            sum(tally.messages for tally in received),
            sum(tally.framed_bytes for tally in sent),
            sum(tally.framed_bytes for tally in received),
        )

    def samples(self, run: str, peer: str, direction: Direction) -> int:
        """Samples of the run's morphed batches that went to a peer, or came from it, each time counted. Predictions
        are none of a run's batches."""
        query = "SELECT SUM(samples) FROM messages WHERE run = ? AND peer = ? AND direction = ? AND kind = ?"
        of = (run, peer, direction.value)
        with self._lock:
            sums = [self._connection.execute(query, (*of, kind.value)).fetchone()[0] for kind in SAMPLE_KINDS]
        return sum(one or 0 for one in sums)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def _unwritable(self, fault: sqlite3.Error) -> OSError:
        number = errno.ENOSPC if getattr(fault, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL else errno.EIO
        return OSError(number, f"the ledger can't be written: {fault}", str(self._path))

    def _require_whole(self) -> None:
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(verdict)

    def _damaged(self, why: str) -> DamagedError:
        fix = (
            "put the newest copy back; or move it aside, with its -wal and -shm: a new ledger begins, and the report "
            "says that the parties' sums do not balance"
        )
        return DamagedError(self._path, f"is damaged ({why})", fix)

    def _stored_tallies(self) -> dict[MessageClass, Tally]:
        sums = self._connection.execute(
            "SELECT method, kind, direction, peer, COUNT(*), SUM(framed_bytes), SUM(payload_bytes), SUM(samples) "
            "FROM messages GROUP BY method, kind, direction, peer"
        )
        return {
            MessageClass(method, kind, Direction(direction), peer): Tally(*numbers)
            for method, kind, direction, peer, *numbers in sums
        }


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(private_file(path), check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, _VERSION):
        connection.close()
        raise ValueError(f"ledger {path} has version {version}, this program writes {_VERSION}; use a new state folder")
    connection.execute(SCHEMA)
    connection.execute(f"PRAGMA user_version={_VERSION}")
    return connection
