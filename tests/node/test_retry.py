"""The retry policy by itself: its clock, its dice, and what explains a failure are the test's; nobody is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from mple.node.retry import CONNECTED_S, EXPLAIN_EVERY, LONGEST_ROUND_S, RetryPolicy, StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.rpc import AwayError, TlsError
from mple.rpc.tls import Probed

AWAY = Probed(None, "nothing listens there", True)
BROKEN = Probed(None, "its certificate has expired", False)
FINE = Probed(None, None, False)


class World:
    """A party that fails as the test says, and time that passes only when told."""

    def __init__(self, budget_s: float = 600.0) -> None:
        self.now_s, self.seen, self.looks = 1000.0, AWAY, 0
        self.bounds: list[float] = []
        self.disk: Exception | None = None
        self.tries = 0
        self.retry = RetryPolicy(
            address="north:1",
            stop=Stop(),
            budget_s=budget_s,
            explain=self._explain,
            require_disk=self._require_disk,
            clock=lambda: self.now_s,
            jitter=self._no_pause,
        )

    def failing(self, *took_s: float, fault: Exception | None = None) -> Callable[[], str]:
        """Attempts that fail after so many seconds each; the one after them is answered."""
        left = list(took_s)

        def attempt() -> str:
            self.tries += 1
            if not left:
                return "answer"
            self.now_s += left.pop(0)
            raise fault or AwayError("away")

        return attempt

    def _explain(self) -> Probed:
        self.looks += 1
        return self.seen

    def _require_disk(self) -> None:
        if self.disk is not None:
            raise self.disk

    def _no_pause(self, low: float, high: float) -> float:
        assert low == 0
        self.bounds.append(high)
        return 0.0


def test_pauses_are_drawn_between_nothing_and_a_bound_that_doubles() -> None:
    world = World()
    assert world.retry.call(world.failing(*[0] * 9)) == "answer"
    assert world.tries == 10
    assert world.bounds == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20])


def test_only_some_failures_are_explained_for_an_explanation_takes_its_time() -> None:
    world = World()
    world.retry.call(world.failing(*[0] * (2 * EXPLAIN_EVERY + 1)))
    assert world.looks == 3


def test_the_budget_runs_from_the_first_failure_not_while_a_call_works() -> None:
    """A stream may work for hours before its link breaks."""
    world = World()
    assert world.retry.call(world.failing(60_000, 0)) == "answer"


def test_a_connection_renews_the_budget_and_slow_failures_do_not() -> None:
    world = World(budget_s=CONNECTED_S)
    assert world.retry.call(world.failing(*[0, CONNECTED_S + 1] * 4)) == "answer"
    world.tries = 0
    with pytest.raises(UnreachableError, match=r"gave up on north:1 after .*: nothing listens there"):
        world.retry.call(world.failing(*[CONNECTED_S - 1] * 10))
    assert world.tries == 3


def test_time_in_which_this_process_stood_still_does_not_count() -> None:
    """Between two failures; within an attempt a leap looks like a stream that worked."""
    world = World(budget_s=3 * LONGEST_ROUND_S)

    def explain_after_a_sleep() -> Probed:
        world.now_s += 100_000
        return AWAY

    retry = dataclasses.replace(world.retry, explain=explain_after_a_sleep)
    assert retry.call(world.failing(*[0] * (2 * EXPLAIN_EVERY))) == "answer"


def test_less_budget_on_request_but_never_more() -> None:
    world = World(budget_s=5.0)
    assert [world.retry.within(budget_s).budget_s for budget_s in (1.0, 100.0)] == [1.0, 5.0]


def test_what_no_repetition_can_mend() -> None:
    world = World()
    world.seen = BROKEN
    with pytest.raises(UnreachableError, match="its certificate has expired"):
        world.retry.call(world.failing(0, 0))
    with pytest.raises(UnreachableError, match="another role"):
        world.retry.call(world.failing(0, 0, fault=TlsError("another role")))
    assert world.tries == 2


def test_a_party_that_answers_the_look_but_no_call_is_given_up_with_the_calls_own_words() -> None:
    world = World(budget_s=1.0)
    world.seen = FINE
    with pytest.raises(UnreachableError, match=r"after 1 s: north:1 breaks off calls: away"):
        world.retry.call(world.failing(0, 2, 2))


def test_a_fault_of_this_nodes_own_disk_is_no_absence() -> None:
    world = World()
    world.disk = OSError("no room")
    with pytest.raises(OSError, match="no room"):
        world.retry.call(world.failing(0, 0))
    assert (world.tries, world.looks) == (1, 0)


def test_a_wish_to_end_is_seen_before_anybody_is_asked_why() -> None:
    world = World()
    world.retry.stop.set()
    with pytest.raises(StoppedError):
        world.retry.call(world.failing(0, 0))
    assert (world.tries, world.looks) == (1, 0)
