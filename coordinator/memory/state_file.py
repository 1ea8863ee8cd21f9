"""The coordinator's memory: one SQLite file. Whatever a restart needs is here or in the layer files.

One connection under one re-entrant lock: threads take turns, and what one transaction writes, state and events
together, is on the disk before anybody is told of it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import storage_fault_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parties (label TEXT PRIMARY KEY, profile BLOB NOT NULL, certificate BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS envelopes (sender TEXT, recipient TEXT, kind INTEGER, envelope BLOB NOT NULL,
    PRIMARY KEY (sender, recipient, kind));
CREATE TABLE IF NOT EXISTS key_layers (site TEXT NOT NULL, epoch INTEGER NOT NULL, sha256 BLOB NOT NULL UNIQUE,
    header BLOB NOT NULL, released INTEGER NOT NULL, PRIMARY KEY (site, epoch));
"""


class StateFile:
    """`coordinator.sqlite` in a state folder, readable by its owner only: in escrow custody it holds a secret."""

    def __init__(self, folder: Path) -> None:
        """Open the file, making it at first use, in a folder that the caller has claimed.

        Raises ValueError: it is damaged.
        """
        try:
            self._connection = _open(folder / "coordinator.sqlite")
        except sqlite3.DatabaseError as fault:
            if storage_fault_of(fault) is not None or scarcity_of(fault) is not None:
                raise
            raise ValueError(
                f"{folder / 'coordinator.sqlite'} can't be used ({fault}); restore it, or name another state folder"
            ) from None
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        """Notified after each transaction; waiting on it lets other threads in."""

    def __enter__(self) -> StateFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what the block writes; a transaction within another is part of it."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self.changed.notify_all()

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def fact(self, name: str) -> bytes | None:
        """A named value."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return as_bytes(rows[0][0]) if rows else None

    def keep_fact(self, name: str, value: bytes) -> None:
        """Set a named value."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def scrub(self) -> None:
        """Leave no copy of deleted values in the write-ahead log; the file itself has them overwritten already."""
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def as_bytes(value: object) -> bytes:
    """A BLOB column's value."""
    assert isinstance(value, bytes), type(value)
    return value


def as_int(value: object) -> int:
    """An INTEGER column's value."""
    assert isinstance(value, int), type(value)
    return value


def as_text(value: object) -> str:
    """A TEXT column's value."""
    assert isinstance(value, str), type(value)
    return value


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA secure_delete=ON")
    connection.executescript(_SCHEMA)
    return connection
