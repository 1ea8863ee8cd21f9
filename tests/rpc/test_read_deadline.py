"""Messages within a time: an iterator that gives up, or a reading thread that takes them itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import grpc
import pytest

from mple.rpc import ErrorCode, MpleError
from mple.rpc.read_deadline import DeadlineIterator, only_request
from tests.support.small_run import refused

LONG_S = 30.0


class Call:
    """A call whose peer says what the test says: `messages` for the reader, the rest as its context."""

    def __init__(self) -> None:
        self.said: queue.Queue[int | Exception | None] = queue.Queue()
        self.on_end: Callable[[], None] = lambda: None

    @property
    def context(self) -> grpc.ServicerContext:
        return cast("grpc.ServicerContext", self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.on_end = callback
        return True

    def messages(self) -> Iterator[int]:
        while (said := self.said.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said

    def say(self, *what: int | Exception | None) -> None:
        for one in what:
            self.said.put(one)


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call()
    yield call
    call.say(None)
    call.on_end()


def test_messages_come_in_order_and_then_the_end(call: Call) -> None:
    call.say(1, 2, 3, None)
    assert list(DeadlineIterator(call.messages(), call.context, LONG_S)) == [1, 2, 3]


def test_a_silent_peer_is_given_up(call: Call) -> None:
    messages = DeadlineIterator(call.messages(), call.context, 0.05)
    call.say(1)
    assert next(messages) == 1
    with refused(ErrorCode.STREAM_TRUNCATED, "no message came for 0.05 s"):
        next(messages)


def test_a_broken_link_is_raised_behind_what_came(call: Call) -> None:
    call.say(1, grpc.RpcError("broken"))
    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    assert next(messages) == 1
    with pytest.raises(grpc.RpcError, match="broken"):
        next(messages)


def test_a_call_that_is_over_is_no_end_in_order(call: Call) -> None:
    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    call.say(1, 2)
    assert next(messages) == 1
    call.on_end()
    call.say(3)
    with pytest.raises(grpc.RpcError):
        list(messages)


def test_the_reading_thread_takes_what_it_reads_and_may_be_kept_waiting(call: Call) -> None:
    taken: list[tuple[int, str]] = []
    ended = threading.Event()
    messages = DeadlineIterator(call.messages(), call.context, 0.05)
    call.say(0)
    assert next(messages) == 0
    messages.hand_to(lambda message: taken.append((message, threading.current_thread().name)), ended.set)
    assert not ended.wait(0.2), "longer than an iterator would wait"
    call.say(1, 2, None)
    assert ended.wait(LONG_S)
    assert taken == [(1, "messages"), (2, "messages")]
    assert messages.ended
    messages.raise_fault()


def test_what_was_read_ahead_is_taken_first(call: Call) -> None:
    taken: list[int] = []
    call.say(1, 2, 3, None)
    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    ended = threading.Event()
    messages.hand_to(taken.append, ended.set)
    assert ended.wait(LONG_S)
    assert taken == [1, 2, 3]


def test_an_end_before_the_hand_over_is_told(call: Call) -> None:
    call.say(None)
    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    assert messages.wait_ended(LONG_S)
    ended = threading.Event()
    messages.hand_to(lambda _: None, ended.set)
    assert ended.is_set()


@pytest.mark.parametrize("what", [MpleError(ErrorCode.UNKNOWN_REQUEST), ValueError("odd")])
def test_what_taking_raises_ends_the_reading_and_is_kept(call: Call, what: Exception) -> None:
    def take(_: int) -> None:
        raise what

    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    ended = threading.Event()
    messages.hand_to(take, ended.set)
    call.say(1)
    assert ended.wait(LONG_S)
    with pytest.raises(type(what)):
        messages.raise_fault()


def test_an_end_is_waited_for_no_longer_than_said(call: Call) -> None:
    messages = DeadlineIterator(call.messages(), call.context, LONG_S)
    assert not messages.wait_ended(0.05)


@pytest.mark.parametrize("said", [[7], [7, 8]])
def test_the_only_request_is_the_first(call: Call, said: list[int]) -> None:
    call.say(*said)
    with ThreadPoolExecutor(1) as readers:
        assert only_request(call.messages(), readers, LONG_S) == 7


def test_a_request_that_does_not_come_frees_its_caller_and_then_its_reader(call: Call) -> None:
    with ThreadPoolExecutor(1) as readers:
        with refused(ErrorCode.STREAM_TRUNCATED, "no message came for 0.05 s"):
            only_request(call.messages(), readers, 0.05)
        call.say(None)
        with refused(ErrorCode.MESSAGE_MALFORMED, "without its request"):
            only_request(iter(()), readers, LONG_S)
