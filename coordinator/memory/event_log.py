"""The run's events by sequence number, kept for whoever comes later or comes back."""

import threading
import time
from collections.abc import Callable, Iterator

from coordinator.memory.state_file import StateFile, as_bytes, as_int
from mple.v1 import coordinator_pb2

_READ_AT_ONCE = 64


class EventLog:
    """Appends events within the caller's transaction and lets watchers follow them."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._closed = threading.Event()

    def append(self, event: coordinator_pb2.WatchResponse) -> None:
        """Give an event the next number and keep it; watchers see it once the transaction is through."""
        with self._file.transaction() as connection:
            event.sequence = self.last_sequence() + 1
            event.time_unix_ms = time.time_ns() // 1_000_000
            connection.execute("INSERT INTO events VALUES (?, ?)", (event.sequence, event.SerializeToString()))

    def last_sequence(self) -> int:
        """Number of the newest event, 0 before the first."""
        return as_int(self._file.rows("SELECT COALESCE(MAX(sequence), 0) FROM events")[0][0])

    def follow(self, after: int, alive: Callable[[], bool]) -> Iterator[coordinator_pb2.WatchResponse]:
        """Events after a number in their order, then new ones, while `alive()` holds and the log is open. Whoever ends
        what `alive` tells of calls `wake`."""
        query = "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        while alive() and not self._closed.is_set():
            with self._file.changed:
                rows = self._file.rows(query, after, _READ_AT_ONCE)
                if not rows and alive() and not self._closed.is_set():
                    self._file.changed.wait()
            for row in rows:
                event = coordinator_pb2.WatchResponse.FromString(as_bytes(row[0]))
                after = event.sequence
                yield event

    @property
    def closed(self) -> bool:
        """Whether nobody can follow any more."""
        return self._closed.is_set()

    def wake(self) -> None:
        """Let all watchers look at once whether they are still alive."""
        with self._file.changed:
            self._file.changed.notify_all()

    def close(self) -> None:
        """End all followers."""
        self._closed.set()
        self.wake()
