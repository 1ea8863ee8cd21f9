"""The compute node's side of a delivery: who is told when, who is waited for, and how long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from compute_node.feeding.network_offers import NetworkOffers
from compute_node.feeding.request_window import FeedFault
from mple.plan import AbsencePolicy
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2
from tests.support.open_intake import IDLE_S, OpenIntake

READY = compute_pb2.NetworkReady(total_bytes=7, sha256=b"n" * 32, epoch=2, model_sha256=b"m" * 32)
RECEIVED = compute_pb2.NetworkReceived(sha256=b"n" * 32, check="agrees")


def test_a_site_is_told_once_on_each_stream_until_it_has_the_network() -> None:
    offers = NetworkOffers()
    assert offers.next("north") is None
    with pytest.raises(FeedFault, match="was not told"):
        offers.received("north", READY.sha256)
    offers.begin(READY, {"north", "south"})
    assert (offers.next("north"), offers.next("north")) == (READY, None)
    offers.stream_broke("north")
    with pytest.raises(FeedFault, match="was not told"):
        offers.received("north", READY.sha256)
    assert offers.next("north") == READY
    with pytest.raises(FeedFault, match="received network 7878787878787878"):
        offers.received("north", b"x" * 32)
    offers.received("north", READY.sha256)
    offers.stream_broke("north")
    assert offers.next("north") is None
    assert offers.due == {"south"}
    with pytest.raises(FeedFault, match="was not told"):
        offers.received("north", READY.sha256)


def begun(one: OpenIntake, pool: ThreadPoolExecutor) -> Callable[[], tuple[str, ...]]:
    """Begin the delivery in a thread; returns what waits for its end."""
    told = threading.Event()
    begin = one.intake._offers.begin

    def note(*arguments: object) -> None:
        begin(*arguments)  # type: ignore[arg-type]
        told.set()

    one.intake._offers.begin = note  # type: ignore[method-assign, assignment]
    done = pool.submit(one.intake.deliver, READY)
    assert told.wait(10)
    return lambda: done.result(10)


def ready_for(one: OpenIntake, site: str) -> bool:
    message = one.intake.next_message(site)
    return message is not None and message.network_ready == READY


def test_every_site_is_waited_for(window: Callable[..., OpenIntake]) -> None:
    one = window()
    with ThreadPoolExecutor(1) as pool:
        ended = begun(one, pool)
        with one.intake.stream("north"):
            assert ready_for(one, "north")
        with one.intake.stream("north"):  # its link broke
            assert ready_for(one, "north")
            assert not ready_for(one, "north")
            one.intake.take_received("north", RECEIVED)
        with one.intake.stream("south"):
            assert ready_for(one, "south")
            with pytest.raises(MpleError) as fault:
                one.intake.take_received("south", compute_pb2.NetworkReceived())
            assert fault.value.code is ErrorCode.UNKNOWN_REQUEST
            one.intake.take_received("south", RECEIVED)
        assert ended() == ()


def test_bytes_that_leave_are_progress_and_silence_is_not(window: Callable[..., OpenIntake]) -> None:
    one = window()
    with ThreadPoolExecutor(1) as pool:
        ended = begun(one, pool)
        one.pass_time(0, int(IDLE_S) - 1)
        one.intake.moved()
        one.pass_time(int(IDLE_S) - 1, 2 * int(IDLE_S) - 2)
        one.clock.set(3 * IDLE_S)
        with one.changed:
            one.changed.notify_all()
        with pytest.raises(
            MpleError, match="no word that the network has arrived came in for 30 s; due from north, south"
        ):
            ended()


def test_under_proceed_a_run_ends_without_the_sites_that_stay_away(window: Callable[..., OpenIntake]) -> None:
    one = window(policy=AbsencePolicy.PROCEED)
    with ThreadPoolExecutor(1) as pool:
        ended = begun(one, pool)
        with one.intake.stream("north"):
            assert ready_for(one, "north")
            one.intake.take_received("north", RECEIVED)
        one.intake.leave("south")
        assert ended() == ("south",)
