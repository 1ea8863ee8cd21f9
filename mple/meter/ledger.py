"""A node's ledger: one row per message, in SQLite, written in groups by a thread of its own.

Recording is cheap and may be called from any thread. A write that fails is not lost in the thread: the next `record`,
`flush` or `close` raises it.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.meter.facts import MessageFacts

GRPC_PREFIX_BYTES = 5
"""Length prefix that gRPC puts before each message (gRPC over HTTP/2, section "Length-Prefixed-Message")."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    time_unix_ns INTEGER NOT NULL, node TEXT NOT NULL, run TEXT NOT NULL, phase TEXT NOT NULL, peer TEXT NOT NULL,
    direction TEXT NOT NULL, method TEXT NOT NULL, kind TEXT NOT NULL, call_id TEXT NOT NULL, idx INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL, label_bytes INTEGER NOT NULL, serialized_bytes INTEGER NOT NULL,
    framed_bytes INTEGER NOT NULL, samples INTEGER NOT NULL, key_ref TEXT NOT NULL
)
"""
_COLUMNS = 16


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
    """The books of one node. Opening an existing file goes on with it."""

    def __init__(self, path: Path, node: str, *, flush_interval_s: float = 0.5) -> None:
        """Open or make the file.

        Raises:
            ValueError: The file is of a newer version of this program.
        """
        self._node = node
        self._run = self._phase = ""
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, _VERSION):
            raise ValueError(f"ledger {path} has version {version}, this program writes {_VERSION}; upgrade it")
        self._connection.execute(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version={_VERSION}")
        self._connection.commit()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._rows: list[tuple[object, ...]] = []
        self._totals = self._stored_totals()
        self._fault: Exception | None = None
        self._closed = threading.Event()
        self._flush_interval_s = flush_interval_s
        self._thread = threading.Thread(target=self._flush_often, name="ledger", daemon=True)
        self._thread.start()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_run(self, run_id: str) -> None:
        """Stamp entries from now on with a run."""
        with self._lock:
            self._run = run_id

    def set_phase(self, phase: str) -> None:
        """Stamp entries from now on with a phase."""
        with self._lock:
            self._phase = phase

    def record(self, entry: LedgerEntry) -> None:
        """Enter one message.

        Raises:
            OSError: An earlier write failed, or the ledger is closed.
        """
        facts = entry.facts
        with self._lock:
            self._raise_fault()
            if self._closed.is_set():
                raise OSError("the ledger is closed; a message came after it")
            self._rows.append(
                (
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
                    facts.key_ref,
                )
            )
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

    def flush(self) -> None:
        """Write what has been recorded.

        Raises:
            OSError: The write, or an earlier one, failed.
        """
        self._write()
        with self._lock:
            self._raise_fault()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        try:
            self.flush()
        finally:
            self._connection.close()

    def _flush_often(self) -> None:
        while not self._closed.wait(self._flush_interval_s):
            self._write()

    def _write(self) -> None:
        with self._writing:
            with self._lock:
                rows, self._rows = self._rows, []
            if not rows:
                return
            try:
                with self._connection:
                    marks = ",".join("?" * _COLUMNS)
                    self._connection.executemany(f"INSERT INTO messages VALUES ({marks})", rows)  # noqa: S608
            except Exception as fault:  # whatever it is, the next record must raise it
                with self._lock:
                    self._rows = rows + self._rows
                    self._fault = fault

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise OSError(f"the ledger can't be written: {self._fault}") from self._fault

    def _stored_totals(self) -> LedgerTotals:
        sums = dict.fromkeys(("sent", "received"), (0, 0))
        for direction, count, size in self._connection.execute(
            "SELECT direction, COUNT(*), SUM(framed_bytes) FROM messages GROUP BY direction"
        ):
            sums[direction] = (count, size)
        return LedgerTotals(sums["sent"][0], sums["received"][0], sums["sent"][1], sums["received"][1])
