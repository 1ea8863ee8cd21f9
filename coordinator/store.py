"""The coordinator's memory: one SQLite file with who joined, the plan, events, envelopes and released layers.

Whatever a restart needs is here or in the layer files. Each method is one transaction; callers of several threads are
served one after the other.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mple.v1 import coordinator_pb2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parties (label TEXT PRIMARY KEY, request BLOB NOT NULL, certificate BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS envelopes (sender TEXT, recipient TEXT, kind INTEGER, envelope BLOB NOT NULL,
    PRIMARY KEY (sender, recipient, kind));
CREATE TABLE IF NOT EXISTS layers (site TEXT PRIMARY KEY, header BLOB NOT NULL, response BLOB NOT NULL);
"""
_READ_AT_ONCE = 64


class RunStore:
    """State of one run."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.executescript(_SCHEMA)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._closed = False

    def close(self) -> None:
        """End all waiting watchers and close the file."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            self._connection.close()

    def fact(self, name: str) -> bytes | None:
        """A named value."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep_fact(self, name: str, value: bytes) -> None:
        """Set a named value."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    def parties(self) -> dict[str, coordinator_pb2.JoinRequest]:
        """Join requests by label, in the order of joining."""
        with self._lock:
            rows = self._connection.execute("SELECT label, request FROM parties ORDER BY rowid").fetchall()
        return {label: coordinator_pb2.JoinRequest.FromString(request) for label, request in rows}

    def certificates(self) -> list[bytes]:
        """DER certificates of all parties that joined."""
        with self._lock:
            return [bytes(row[0]) for row in self._connection.execute("SELECT certificate FROM parties ORDER BY rowid")]

    def keep_party(self, label: str, request: coordinator_pb2.JoinRequest, certificate_der: bytes) -> None:
        """Set what a party joined with."""
        self._write("INSERT OR REPLACE INTO parties VALUES (?, ?, ?)", label, request.SerializeToString(), certificate_der)

    def append_event(self, event: coordinator_pb2.WatchResponse) -> int:
        """Give an event the next sequence number and wake all watchers."""
        with self._news:
            row = self._connection.execute("SELECT COALESCE(MAX(sequence), 0) + 1 FROM events").fetchone()
            event.sequence = int(row[0])
            event.time_unix_ms = time.time_ns() // 1_000_000
            with self._connection:
                self._connection.execute("INSERT INTO events VALUES (?, ?)", (event.sequence, event.SerializeToString()))
            self._news.notify_all()
            return event.sequence

    def last_sequence(self) -> int:
        """Of the newest event."""
        with self._lock:
            return int(self._connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM events").fetchone()[0])

    def events_after(self, sequence: int, alive: Callable[[], bool]) -> Iterator[coordinator_pb2.WatchResponse]:
        """Events in their order, waiting for new ones while `alive()` holds and the store is open."""
        while True:
            with self._news:
                if self._closed:
                    return
                rows = self._connection.execute(
                    "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, _READ_AT_ONCE)
                ).fetchall()
                if not rows:
                    self._news.wait(0.5)
            for row in rows:
                event = coordinator_pb2.WatchResponse.FromString(row[0])
                sequence = event.sequence
                yield event
            if not alive():
                return

    def envelope(self, sender: str, recipient: str, kind: int) -> bytes | None:
        """One envelope."""
        with self._lock:
            row = self._connection.execute(
                "SELECT envelope FROM envelopes WHERE sender = ? AND recipient = ? AND kind = ?",
                (sender, recipient, kind),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def envelopes_for(self, recipient: str) -> list[tuple[str, int, bytes]]:
        """Sender, kind and envelope of all that was left for a party."""
        with self._lock:
            return self._connection.execute(
                "SELECT sender, kind, envelope FROM envelopes WHERE recipient = ? ORDER BY rowid", (recipient,)
            ).fetchall()

    def keep_envelope(self, sender: str, recipient: str, kind: int, envelope: bytes) -> None:
        """Leave an envelope; of each sender, recipient and kind the newest counts."""
        self._write("INSERT OR REPLACE INTO envelopes VALUES (?, ?, ?, ?)", sender, recipient, kind, envelope)

    def layers(self) -> dict[str, tuple[coordinator_pb2.LayerHeader, bytes]]:
        """Headers and consistency responses of released layers, by site, in the order of release."""
        with self._lock:
            rows = self._connection.execute("SELECT site, header, response FROM layers ORDER BY rowid").fetchall()
        return {site: (coordinator_pb2.LayerHeader.FromString(header), response) for site, header, response in rows}

    def keep_layer(self, site: str, header: coordinator_pb2.LayerHeader, response: bytes) -> None:
        """Record a released layer."""
        self._write("INSERT OR REPLACE INTO layers VALUES (?, ?, ?)", site, header.SerializeToString(), response)

    def _write(self, statement: str, *values: object) -> None:
        with self._lock, self._connection:
            self._connection.execute(statement, values)
