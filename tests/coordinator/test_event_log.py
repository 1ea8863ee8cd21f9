"""Events: numbered without gaps, followed by many, gone on from any number, ended on close."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.memory.event_log import EventLog
from coordinator.memory.state_file import StateFile
from mple.v1 import coordinator_pb2


def append(log: EventLog, *names: str) -> None:
    for name in names:
        log.append(coordinator_pb2.WatchResponse(party_joined=coordinator_pb2.PartyJoined(party=name)))


def parties(events: Iterator[coordinator_pb2.WatchResponse]) -> list[str]:
    return [event.party_joined.party for event in events]


class Watcher:
    """A thread that follows the log from a number on."""

    def __init__(self, log: EventLog, after: int = 0) -> None:
        self.seen: list[str] = []
        self.alive = True
        self.changed = threading.Condition()
        self._log, self._after = log, after
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        for event in self._log.follow(self._after, lambda: self.alive):
            with self.changed:
                self.seen.append(event.party_joined.party)
                self.changed.notify_all()

    def wait_for(self, count: int) -> list[str]:
        """What has been seen once it is so much."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.seen) >= count, 20)
            return list(self.seen)


@pytest.fixture
def log(state_file: StateFile) -> Iterator[EventLog]:
    log = EventLog(state_file)
    yield log
    log.close()


def test_events_are_numbered_without_gaps_over_restarts(tmp_path: Path) -> None:
    for part in (["a", "b"], ["c"]):
        with StateFile(tmp_path) as file:
            append(EventLog(file), *part)
    with StateFile(tmp_path) as file:
        log = EventLog(file)
        assert log.last_sequence() == 3
        events = list(itertools.islice(log.follow(0, lambda: True), 3))
    assert [event.sequence for event in events] == [1, 2, 3]
    assert parties(iter(events)) == ["a", "b", "c"]
    assert events[0].time_unix_ms <= events[2].time_unix_ms


@pytest.mark.parametrize("after", [0, 1, 99, 149])
def test_following_goes_on_behind_any_number(log: EventLog, after: int) -> None:
    append(log, *map(str, range(150)))
    assert parties(itertools.islice(log.follow(after, lambda: True), 150 - after)) == [
        str(number) for number in range(after, 150)
    ]


def test_watchers_hear_of_new_events(log: EventLog) -> None:
    watchers = [Watcher(log), Watcher(log), Watcher(log, after=1)]
    append(log, "a", "b")
    assert [watcher.wait_for(count) for watcher, count in zip(watchers, (2, 2, 1), strict=True)] == [
        ["a", "b"],
        ["a", "b"],
        ["b"],
    ]
    append(log, "c")
    assert watchers[2].wait_for(2) == ["b", "c"]


def test_watchers_do_not_hear_of_what_was_undone(log: EventLog, state_file: StateFile) -> None:
    watcher = Watcher(log)
    with contextlib.suppress(ZeroDivisionError), state_file.transaction():
        append(log, "undone")
        raise ZeroDivisionError
    append(log, "kept")
    assert watcher.wait_for(1) == ["kept"]
    assert log.last_sequence() == 1


def test_following_ends_when_the_watcher_is_gone(log: EventLog) -> None:
    watcher, other = Watcher(log), Watcher(log)
    append(log, "a")
    watcher.wait_for(1)
    watcher.alive = False
    log.wake()
    watcher.thread.join(20)
    assert not watcher.thread.is_alive()
    append(log, "b")
    assert other.wait_for(2) == ["a", "b"]


def test_following_ends_on_close_and_does_not_begin_after(log: EventLog) -> None:
    watchers = [Watcher(log) for _ in range(5)]
    append(log, "a")
    log.close()
    for watcher in watchers:
        watcher.thread.join(20)
        assert not watcher.thread.is_alive()
    assert list(log.follow(0, lambda: True)) == []
