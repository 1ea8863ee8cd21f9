"""A client's messages within a time: an iterator that gives up."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import grpc
import pytest

from comparison.two_party.read_deadline import DeadlineIterator
from mple.rpc import ErrorCode
from tests.support.small_run import refused

LONG_S = 30.0


class Call:
    """A call whose peer says what the test says: `messages` for the reader, and its end."""

    def __init__(self) -> None:
        self.said: queue.Queue[int | Exception | None] = queue.Queue()
        self.on_end: Callable[[], None] = lambda: None

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
    assert list(DeadlineIterator(call.messages(), call, LONG_S)) == [1, 2, 3]


def test_a_silent_peer_is_given_up(call: Call) -> None:
    messages = DeadlineIterator(call.messages(), call, 0.05)
    call.say(1)
    assert next(messages) == 1
    with refused(ErrorCode.STREAM_TRUNCATED, "no message came for 0.05 s"):
        next(messages)


def test_a_broken_link_is_raised_behind_what_came(call: Call) -> None:
    call.say(1, grpc.RpcError("broken"))
    messages = DeadlineIterator(call.messages(), call, LONG_S)
    assert next(messages) == 1
    with pytest.raises(grpc.RpcError, match="broken"):
        next(messages)


def test_a_call_that_is_over_is_no_end_in_order(call: Call) -> None:
    messages = DeadlineIterator(call.messages(), call, LONG_S)
    call.say(1, 2)
    assert next(messages) == 1
    call.on_end()
    call.say(3)
    with pytest.raises(grpc.RpcError):
        list(messages)
