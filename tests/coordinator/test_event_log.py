"""Events: numbered in order, each told to whom it concerns, gone on from any number, ended on close."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.memory.event_log import EventLog
from coordinator.memory.state_file import StateFile
from mple.rpc import Party, Role
from mple.v1 import common_pb2, coordinator_pb2
from tests.support.small_run import site_party

NORTH, SOUTH, COMPUTE = site_party("north"), site_party("south"), Party("test", Role.COMPUTE, "compute")


def append(log: EventLog, *names: str) -> None:
    for name in names:
        log.append(coordinator_pb2.WatchResponse(phase_changed=coordinator_pb2.PhaseChanged(reason=name)))


def parties(events: Iterator[coordinator_pb2.WatchResponse]) -> list[str]:
    return [event.phase_changed.reason for event in events]


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
        for event in self._log.follow(NORTH, self._after, lambda: self.alive):
            with self.changed:
                self.seen.append(event.phase_changed.reason)
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
        events = list(itertools.islice(log.follow(NORTH, 0, lambda: True), 3))
    assert [event.sequence for event in events] == [1, 2, 3]
    assert parties(iter(events)) == ["a", "b", "c"]
    assert events[0].time_unix_ms <= events[2].time_unix_ms


@pytest.mark.parametrize("after", [0, 1, 99, 149])
def test_following_goes_on_behind_any_number(log: EventLog, after: int) -> None:
    append(log, *map(str, range(150)))
    assert parties(itertools.islice(log.follow(NORTH, after, lambda: True), 150 - after)) == [
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
    assert list(log.follow(NORTH, 0, lambda: True)) == []


SOUTHS = common_pb2.KeyRef(site="south", epoch=1)
PUBLIC = {"plan_made", "phase_changed", "epoch_done", "network_scored"}
EVENTS: dict[str, tuple[coordinator_pb2.WatchResponse, set[Party]]] = {
    "party_joined": (
        coordinator_pb2.WatchResponse(party_joined=coordinator_pb2.PartyJoined(party="compute/compute")),
        {COMPUTE},
    ),
    "certificates": (
        coordinator_pb2.WatchResponse(certificates=coordinator_pb2.Certificates(recipient="site/south")),
        {SOUTH},
    ),
    "certificates of escrow": (
        coordinator_pb2.WatchResponse(certificates=coordinator_pb2.Certificates()),
        {NORTH, SOUTH},
    ),
    "envelope_left": (
        coordinator_pb2.WatchResponse(envelope_left=coordinator_pb2.EnvelopeLeft(recipient="site/south")),
        {SOUTH},
    ),
    "layer_wanted": (
        coordinator_pb2.WatchResponse(
            layer_wanted=coordinator_pb2.LayerWanted(header=coordinator_pb2.LayerHeader(key_ref=SOUTHS))
        ),
        {SOUTH},
    ),
    "key_ready": (coordinator_pb2.WatchResponse(key_ready=coordinator_pb2.KeyReady(key_ref=SOUTHS)), {SOUTH}),
    "key_erased": (coordinator_pb2.WatchResponse(key_erased=coordinator_pb2.KeyErased(key_ref=SOUTHS)), {SOUTH}),
    "layer_released": (coordinator_pb2.WatchResponse(layer_released=coordinator_pb2.LayerReleased()), {COMPUTE}),
    "key_rotated": (coordinator_pb2.WatchResponse(key_rotated=coordinator_pb2.KeyRotated()), {COMPUTE}),
    "key_revoked": (coordinator_pb2.WatchResponse(key_revoked=coordinator_pb2.KeyRevoked()), {COMPUTE}),
    "fault": (coordinator_pb2.WatchResponse(fault=coordinator_pb2.Fault()), {COMPUTE}),
}


def test_every_kind_of_event_is_told_to_whom_it_concerns(log: EventLog) -> None:
    kinds = {field.name for field in coordinator_pb2.WatchResponse.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert kinds == PUBLIC | {kind.partition(" ")[0] for kind in EVENTS}
    for event, watchers in EVENTS.values():
        before = log.last_sequence()
        log.append(event)
        assert {party for party in (NORTH, SOUTH, COMPUTE) if log.due(party, before)} == watchers
        assert {party for party in (NORTH, SOUTH, COMPUTE) if log.read(party, before)} == watchers


def test_a_watcher_goes_on_over_gaps(log: EventLog) -> None:
    append(log, "a")
    for event, _ in EVENTS.values():
        log.append(event)
    append(log, "b")
    north = list(itertools.islice(log.follow(NORTH, 0, lambda: True), 3))
    assert [event.WhichOneof("event") for event in north] == ["phase_changed", "certificates", "phase_changed"]
    assert not log.due(NORTH, north[-1].sequence)


def test_a_log_that_is_opened_again_knows_what_is_due(log: EventLog, state_file: StateFile) -> None:
    log.append(EVENTS["envelope_left"][0])
    again = EventLog(state_file)
    assert (again.due(SOUTH, 0), again.due(NORTH, 0)) == (True, False)
