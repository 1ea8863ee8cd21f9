"""Events: numbered in order, each told to whom it concerns, gone on from any number, ended on close."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
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


def reasons(events: list[coordinator_pb2.WatchResponse]) -> list[str]:
    return [event.phase_changed.reason for event in events]


def read_all(log: EventLog, after: int = 0) -> list[coordinator_pb2.WatchResponse]:
    events: list[coordinator_pb2.WatchResponse] = []
    while more := log.read(NORTH, events[-1].sequence if events else after):
        events += more
    return events


class Watcher:
    """Reads on whenever it is woken."""

    def __init__(self, log: EventLog, opened: contextlib.ExitStack, after: int = 0) -> None:
        self.seen: list[str] = []
        self.wakes = 0
        self._log, self._after = log, after
        opened.enter_context(log.listening(NORTH, self._read))

    def _read(self) -> None:
        self.wakes += 1
        for event in read_all(self._log, self._after):
            self.seen.append(event.phase_changed.reason)
            self._after = event.sequence


@pytest.fixture
def log(state_file: StateFile) -> EventLog:
    return EventLog(state_file)


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_events_are_numbered_without_gaps_over_restarts(tmp_path: Path) -> None:
    for part in (["a", "b"], ["c"]):
        with StateFile(tmp_path) as file:
            append(EventLog(file), *part)
    with StateFile(tmp_path) as file:
        log = EventLog(file)
        assert log.last_sequence() == 3
        events = read_all(log)
    assert [event.sequence for event in events] == [1, 2, 3]
    assert reasons(events) == ["a", "b", "c"]
    assert events[0].time_unix_ms <= events[2].time_unix_ms


@pytest.mark.parametrize("after", [0, 1, 99, 149])
def test_reading_goes_on_behind_any_number(log: EventLog, after: int) -> None:
    append(log, *map(str, range(150)))
    assert reasons(read_all(log, after)) == [str(number) for number in range(after, 150)]
    assert len(log.read(NORTH, after)) <= 64, "of many, the first ones"


def test_watchers_hear_of_new_events(log: EventLog, opened: contextlib.ExitStack) -> None:
    watchers = [Watcher(log, opened), Watcher(log, opened), Watcher(log, opened, after=1)]
    append(log, "a", "b")
    assert [watcher.seen for watcher in watchers] == [["a", "b"], ["a", "b"], ["b"]]
    append(log, "c")
    assert watchers[2].seen == ["b", "c"]


def test_watchers_hear_of_a_transaction_once_it_is_through_and_of_nothing_else(
    log: EventLog, state_file: StateFile, opened: contextlib.ExitStack
) -> None:
    watcher = Watcher(log, opened)
    with state_file.transaction():
        append(log, "a", "b")
        assert watcher.wakes == 0
    assert (watcher.wakes, watcher.seen) == (1, ["a", "b"])
    state_file.keep_fact("name", b"value")
    assert watcher.wakes == 1


def test_watchers_do_not_hear_of_what_was_undone(
    log: EventLog, state_file: StateFile, opened: contextlib.ExitStack
) -> None:
    watcher = Watcher(log, opened)
    with contextlib.suppress(ZeroDivisionError), state_file.transaction():
        append(log, "undone")
        raise ZeroDivisionError
    append(log, "kept")
    assert watcher.seen == ["kept"]
    assert log.last_sequence() == 1


def test_who_has_left_hears_nothing_and_all_others_of_the_end(log: EventLog, opened: contextlib.ExitStack) -> None:
    with contextlib.ExitStack() as left:
        gone = Watcher(log, left)
    watcher = Watcher(log, opened)
    log.close()
    assert log.closed
    assert (gone.wakes, watcher.wakes) == (0, 1)


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


def test_every_kind_of_event_is_told_to_whom_it_concerns_and_wakes_nobody_else(log: EventLog) -> None:
    kinds = {field.name for field in coordinator_pb2.WatchResponse.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert kinds == PUBLIC | {kind.partition(" ")[0] for kind in EVENTS}
    woken: set[Party] = set()
    with contextlib.ExitStack() as opened:
        for party in (NORTH, SOUTH, COMPUTE):
            opened.enter_context(log.listening(party, partial(woken.add, party)))
        for event, watchers in EVENTS.values():
            before = log.last_sequence()
            log.append(event)
            assert {party for party in (NORTH, SOUTH, COMPUTE) if log.read(party, before)} == watchers
            assert woken == watchers
            woken.clear()


def test_a_watcher_goes_on_over_gaps(log: EventLog) -> None:
    append(log, "a")
    for event, _ in EVENTS.values():
        log.append(event)
    append(log, "b")
    north = read_all(log)
    assert [event.WhichOneof("event") for event in north] == ["phase_changed", "certificates", "phase_changed"]
    assert not log.read(NORTH, north[-1].sequence)
