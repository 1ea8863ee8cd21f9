"""Raw calls for hostile acts, and what is asserted of each: its status and its line in the audit trail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import grpc
from shots import Outcome, Shot, fire

from mple.rpc import ErrorCode
from mple.rpc.errors import CATALOGUE

COORDINATOR, COMPUTE = "/mple.v1.CoordinatorService/", "/mple.v1.ComputeService/"


def call(
    channel: grpc.Channel,
    method: str,
    *messages: bytes,
    reply: Callable[[bytes], list[bytes]] | None = None,
    most_answers: int = 64,
) -> Outcome:
    """One call with these messages."""
    return fire(channel, Shot("", "", "", method, messages, reply), most_answers, quiet_s=2.0)


def assert_refused(
    outcome: Outcome, code: ErrorCode, caller: str, refused: Callable[[], list[tuple[str, str]]]
) -> None:
    """The caller got this code under its status, and the audit trail says so."""
    assert (outcome.status, outcome.code) == (CATALOGUE[code].status.name, code), outcome.text
    assert (caller, code) in refused()


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it comes true in time."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return True
        threading.Event().wait(0.02)
    return condition()


def never(until: threading.Event, first: Iterable[bytes] = ()) -> Iterable[bytes]:
    """Messages, then silence that the caller does not end by itself."""
    yield from first
    until.wait(60)
