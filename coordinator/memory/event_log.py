"""The run's events by sequence number, kept for whoever comes later or comes back.

Each event has an audience: what a thousand sites bring about one by one must not be told to a thousand each.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from coordinator.memory.state_file import StateFile, as_bytes, as_int
from mple.rpc import Party, Role
from mple.rpc.waking import Listeners
from mple.v1 import coordinator_pb2

_READ_AT_ONCE = 64
_ALL = "all"
_OF_COMPUTE = {"layer_released", "fault", "key_rotated", "key_revoked"}


def audience_of(event: coordinator_pb2.WatchResponse) -> str:
    """Whom an event concerns: `all`, everybody of a role, `site` or `compute`, or one party by its label."""
    kind = event.WhichOneof("event")
    if kind in _OF_COMPUTE:
        return Role.COMPUTE
    match kind:
        case "party_joined":
            return event.party_joined.party
        case "certificates":
            return event.certificates.recipient or Role.SITE
        case "envelope_left":
            return event.envelope_left.recipient
        case "layer_wanted":
            return f"{Role.SITE}/{event.layer_wanted.header.key_ref.site}"
        case "key_ready":
            return f"{Role.SITE}/{event.key_ready.key_ref.site}"
        case "key_erased":
            return f"{Role.SITE}/{event.key_erased.key_ref.site}"
    return _ALL


class EventLog:
    """Appends events within the caller's transaction and lets watchers follow those that concern them."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._closed = threading.Event()
        self._listeners = Listeners()
        self._due: set[str] = set()
        """Audiences of events whose transaction is not through."""
        file.after_commit.append(self._tell)

    def append(self, event: coordinator_pb2.WatchResponse) -> None:
        """Give an event the next number and keep it; watchers see it once the transaction is through."""
        audience = audience_of(event)
        with self._file.transaction() as connection:
            event.sequence = self.last_sequence() + 1
            event.time_unix_ms = time.time_ns() // 1_000_000
            connection.execute(
                "INSERT INTO events VALUES (?, ?, ?)", (event.sequence, audience, event.SerializeToString())
            )
            self._due.add(audience)

    def last_sequence(self) -> int:
        """Number of the newest event, 0 before the first."""
        return as_int(self._file.rows("SELECT COALESCE(MAX(sequence), 0) FROM events")[0][0])

    def read(self, watcher: Party, after: int) -> list[coordinator_pb2.WatchResponse]:
        """The next events for a party after a number, in their order; of many, the first ones."""
        query = "SELECT event FROM events WHERE sequence > ? AND audience IN (?, ?, ?) ORDER BY sequence LIMIT ?"
        rows = self._file.rows(query, after, *_audiences(watcher), _READ_AT_ONCE)
        return [coordinator_pb2.WatchResponse.FromString(as_bytes(row[0])) for row in rows]

    def listening(self, watcher: Party, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Have `wake` called within the block when there are new events for a party, or the log is closed."""
        return self._listeners.listening(wake, *_audiences(watcher))

    @property
    def closed(self) -> bool:
        """Whether nobody can follow any more."""
        return self._closed.is_set()

    def wake(self) -> None:
        """Let all watchers, and whoever waits for the file to change, look at once whether they go on."""
        with self._file.changed:
            self._file.changed.notify_all()
        self._listeners.wake_all()

    def close(self) -> None:
        """End all watchers."""
        self._closed.set()
        self.wake()

    def _tell(self) -> None:
        """Wake those watchers for whom there is something, and no others."""
        due, self._due = self._due, set()
        for audience in due:
            self._listeners.wake(audience)


def _audiences(watcher: Party) -> tuple[str, str, str]:
    return _ALL, watcher.role.value, watcher.label
