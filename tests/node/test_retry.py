"""The retry policy by itself: its clock, its dice, and what explains a failure are the test's; nobody is called."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable

import grpc
import pytest

from mple.node.retry import CONNECTED_S, EXPLAIN_EVERY, LONGEST_ROUND_S, RetryPolicy, StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.rpc import AwayError, ErrorCode, MpleError, TlsError
from mple.rpc.admission import ACCEPTED_KEY
from mple.rpc.errors import METADATA_KEY
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


# What counts as progress, and what does not.


class Broken(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A call that has ended: with a code, perhaps one of ours behind it, and perhaps after it was let in."""

    def __init__(self, *, let_in: bool = False, code: ErrorCode | None = None, details: str = "Socket closed") -> None:
        self._initial = ((ACCEPTED_KEY, "1"),) if let_in else ()
        self._trailing = ((METADATA_KEY, code.value),) if code is not None else ()
        self._status = grpc.StatusCode.UNAVAILABLE if code is None else code.status
        self._details = details

    def initial_metadata(self) -> object:
        return self._initial

    def trailing_metadata(self) -> object:
        return self._trailing

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._details


SHORT_OUTAGES = [40.0] * 100
"""Each far shorter than the budget; all together they are far longer."""


@pytest.mark.parametrize("code", [None, ErrorCode.GOING_DOWN, ErrorCode.STORAGE_FULL, ErrorCode.OUT_OF_RESOURCES])
def test_a_stream_that_is_let_in_each_time_outlasts_any_number_of_short_outages(code: ErrorCode | None) -> None:
    world = World(budget_s=100.0)
    attempt = world.failing(*SHORT_OUTAGES, fault=Broken(let_in=True, code=code))
    assert world.retry.call(attempt, lasting=True) == "answer"


@pytest.mark.parametrize(
    ("let_in", "code", "lasting"),
    [
        (False, None, True),
        (True, None, False),
        (True, ErrorCode.CHECKSUM_MISMATCH, True),
        (True, ErrorCode.DUPLICATE_STREAM, True),
        (True, ErrorCode.TOO_MANY_CALLS, True),
        (True, ErrorCode.WRONG_PHASE, True),
    ],
)
def test_what_is_never_let_in_or_refused_each_time_spends_its_budget(
    let_in: bool, code: ErrorCode | None, lasting: bool
) -> None:
    world = World(budget_s=100.0)
    attempt = world.failing(*SHORT_OUTAGES, fault=Broken(let_in=let_in, code=code))
    with pytest.raises(UnreachableError, match="gave up on north:1 after 100 s"):
        world.retry.call(attempt, lasting=lasting)


def test_a_transfer_that_gains_a_little_each_time_goes_on_and_one_that_stands_still_ends() -> None:
    world = World(budget_s=100.0)
    assert world.retry.call(world.failing(*SHORT_OUTAGES, fault=Broken()), lambda: world.tries) == "answer"
    world.tries = 0
    with pytest.raises(UnreachableError):
        world.retry.call(world.failing(*SHORT_OUTAGES, fault=Broken()), lambda: min(world.tries, 5))
    assert 5 < world.tries < 10


@pytest.mark.parametrize(
    "details",
    [
        "CLIENT: Received message larger than max (5242891 vs. 4194304)",
        "SERVER: Received message larger than max (5242891 vs. 4194304)",
        "Sent message larger than max (5242891 vs. 4194304)",
        "received initial metadata size exceeds hard limit (20000 vs. 16384)",
        "received trailing metadata size exceeds limit",
    ],
)
def test_a_size_that_was_refused_is_refused_each_time(details: str) -> None:
    world, fault = World(), Broken(details=details)
    fault._status = grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(MpleError, match=r"north:1: RESOURCE_EXHAUSTED .*a message may have 4194304 bytes") as refused:
        world.retry.call(world.failing(0, 0, fault=fault))
    assert (refused.value.code, world.tries) == (ErrorCode.MESSAGE_MALFORMED, 1)


def test_a_party_that_is_busy_is_asked_again() -> None:
    world, fault = World(), Broken(details="Concurrent RPC limit exceeded!")
    fault._status = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert world.retry.call(world.failing(0, 0, fault=fault)) == "answer"


def test_a_peers_own_fault_is_told_with_whose_it_is() -> None:
    world = World()
    with pytest.raises(MpleError, match="INTERNAL: a fault of the program; its log has the details: at north:1"):
        world.retry.call(world.failing(0, fault=Broken(code=ErrorCode.INTERNAL)))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_is_waited_for_and_then_is_this_nodes_own_end(number: int) -> None:
    world, fault = World(budget_s=100.0), OSError(number, "none left")
    assert world.retry.call(world.failing(0, 0, 50, fault=fault)) == "answer"
    assert world.looks == 0, "a look would need what there is none of"
    with pytest.raises(OSError, match="none left"):
        world.retry.call(world.failing(*SHORT_OUTAGES, fault=fault))
