"""A node's way through a run: events in order, and no fault of any thread is lost; the coordinator is the test's."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, close_audit, open_audit, read_entries
from mple.meter import Ledger
from mple.node.retry import StoppedError, UnreachableError
from mple.node.run_follower import RunFollower
from mple.node.stop import Stop
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2 as pb


class Coordinator:
    """Says what the test says, and hears of failures; stands in for a `CoordinatorClient`."""

    def __init__(self) -> None:
        self.said: queue.Queue[pb.WatchResponse | Exception] = queue.Queue()
        self.failures: list[Exception] = []
        self._sequence = 0

    def say(self, **event: object) -> None:
        self._sequence += 1
        self.said.put(pb.WatchResponse(sequence=self._sequence, **event))  # type: ignore[arg-type]

    def enter(self, phase: pb.Phase, reason: str = "") -> None:
        self.say(phase_changed=pb.PhaseChanged(phase=phase, reason=reason))

    def events(self) -> Iterator[pb.WatchResponse]:
        while True:
            said = self.said.get(timeout=60)
            if isinstance(said, Exception):
                raise said
            yield said

    def report_failure(self, fault: Exception) -> None:
        self.failures.append(fault)


class Part:
    """A node's part in a run."""

    def __init__(self, ledger: Ledger) -> None:
        self.coordinator, self.ledger, self.stop = Coordinator(), ledger, Stop()
        self.follower = RunFollower(self.coordinator, ledger, self.stop)  # type: ignore[arg-type]

    def set_up(self) -> None:
        with self.follower as events:
            events.plan_made()
            events.enter(pb.PHASE_SETUP)

    def work(self, body: Callable[[], None]) -> None:
        """Begin a worker and wait for the next event."""
        with self.follower as events:
            events.start("worker", body)
            next(events)


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    open_audit(tmp_path, "site/north")
    with Ledger(tmp_path / "ledger.sqlite", "site/north") as ledger:
        yield Part(ledger)
    close_audit()


def test_events_come_in_order_to_the_runs_good_end(part: Part, tmp_path: Path) -> None:
    coordinator = part.coordinator
    coordinator.say(party_joined=pb.PartyJoined(party="site/north"))
    coordinator.enter(pb.PHASE_GATHERING)
    coordinator.say(plan_made=pb.PlanMade(plan_json=b"a plan"))
    coordinator.enter(pb.PHASE_SETUP)
    coordinator.say(layer_released=pb.LayerReleased())
    coordinator.enter(pb.PHASE_TRAINING)
    coordinator.say(epoch_done=pb.EpochDone(epoch=1))
    coordinator.enter(pb.PHASE_FINISHED)
    coordinator.say(key_erased=pb.KeyErased())
    with part.follower as events:
        assert events.plan_made().plan_json == b"a plan"
        events.enter(pb.PHASE_SETUP)
        events.enter(pb.PHASE_TRAINING)
        assert part.ledger.phase == "training"
        assert [event.sequence for event in events] == [7, 8]
        assert list(events) == []
    assert (part.ledger.phase, part.follower.sequence) == ("finished", 8)
    assert coordinator.failures == []
    assert not part.stop.is_set()
    phases = [entry.facts["phase"] for entry in read_entries(tmp_path / FILE_NAME)]
    assert phases == ["gathering", "setup", "training", "finished"]


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ([], "phase"),
        ([], "layer"),
        ([], "epoch"),
        ([], "key"),
        ([], "finished"),
        (["plan"], "key"),
        (["plan"], "training"),
        (["plan"], "finished"),
    ],
)
def test_a_coordinator_that_goes_on_too_early_is_not_followed(part: Part, before: list[str], kind: str) -> None:
    said: dict[str, dict[str, object]] = {
        "plan": {"plan_made": pb.PlanMade()},
        "phase": {"phase_changed": pb.PhaseChanged(phase=pb.PHASE_SETUP)},
        "training": {"phase_changed": pb.PhaseChanged(phase=pb.PHASE_TRAINING)},
        "finished": {"phase_changed": pb.PhaseChanged(phase=pb.PHASE_FINISHED)},
        "layer": {"layer_released": pb.LayerReleased()},
        "epoch": {"epoch_done": pb.EpochDone(epoch=1)},
        "key": {"key_ready": pb.KeyReady()},
    }
    for word in (*before, kind):
        part.coordinator.say(**said[word])
    with pytest.raises(MpleError, match="the coordinator went on before") as caught:
        part.set_up()
    assert caught.value.code is ErrorCode.WRONG_PHASE


def test_a_failed_run_is_an_error_that_nobody_is_told_again(part: Part) -> None:
    part.coordinator.enter(pb.PHASE_FAILED, "site/south: fire")
    with pytest.raises(MpleError, match="site/south: fire") as caught:
        part.set_up()
    assert caught.value.code is ErrorCode.RUN_FAILED
    assert part.coordinator.failures == []


def test_what_ends_the_events_ends_the_node_and_its_other_threads(part: Part) -> None:
    gone = UnreachableError("gone")
    part.coordinator.said.put(gone)
    ended: list[bool] = []
    with pytest.raises(UnreachableError) as caught:
        part.work(lambda: ended.append(part.stop.wait(60)))
    assert caught.value is gone
    assert part.coordinator.failures == [gone]
    assert ended == [True], "asked to end, and waited for"


def fail_with(fault: Exception) -> None:
    raise fault


def test_a_worker_that_fails_ends_the_node(part: Part) -> None:
    fault = KeyError("a fault of this program")
    with pytest.raises(KeyError) as caught:
        part.work(lambda: fail_with(fault))
    assert caught.value is fault
    assert part.coordinator.failures == [fault]


def test_what_the_node_itself_does_wrong_is_reported_too(part: Part) -> None:
    with pytest.raises(ZeroDivisionError), part.follower:
        raise ZeroDivisionError
    assert [type(fault) for fault in part.coordinator.failures] == [ZeroDivisionError]


def test_a_worker_that_fails_behind_the_runs_end_is_in_the_log(part: Part, caplog: pytest.LogCaptureFixture) -> None:
    part.coordinator.enter(pb.PHASE_FINISHED)
    with part.follower as events:
        assert len(list(events)) == 1
        events.start("worker", lambda: fail_with(OSError("late")))
    assert "while the node ended: late" in caplog.text
    assert part.coordinator.failures == []


def test_the_wish_to_end_wakes_whoever_waits_for_an_event(part: Part) -> None:
    with pytest.raises(StoppedError):
        part.work(part.stop.set)


def test_the_wish_to_end_comes_before_events_that_are_here(part: Part) -> None:
    part.coordinator.enter(pb.PHASE_GATHERING)
    part.stop.set()
    with pytest.raises(StoppedError), part.follower as events:
        next(events)
