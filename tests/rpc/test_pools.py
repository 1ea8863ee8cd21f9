"""Threads for calls when the system gives none: what was handed in is done by those that there are."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mple.rpc import ErrorCode, MpleError
from mple.rpc.pools import PatientPool
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.served import Served


def refuse(_thread: threading.Thread) -> None:
    """As the system does where there may be no more."""
    raise RuntimeError("can't start new thread")


def test_work_waits_for_the_threads_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = PatientPool(64, "test")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    hold = threading.Event()
    held = [pool.submit(hold.wait, 20) for _ in range(4)]
    waiting = [pool.submit(pow, 2, number) for number in range(8)]
    assert not any(one.done() for one in waiting)
    hold.set()
    assert [one.result(20) for one in waiting] == [2**number for number in range(8)]
    assert all(one.result(20) for one in held)
    pool.shutdown()


def test_faults_and_shutdown_are_as_the_librarys() -> None:
    pool = PatientPool(2, "test")

    def fail() -> Any:
        raise MpleError(ErrorCode.STALLED, "why")

    with pytest.raises(MpleError, match="why"):
        pool.submit(fail).result(20)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(pow, 2, 3)


def test_a_server_answers_on_when_the_system_gives_no_thread(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the want raised into gRPC, its one thread that takes calls would end."""
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    request = coordinator_pb2.JoinRequest(protocol_version=7)
    assert stub.Join(request, timeout=20).last_sequence == 7
    with monkeypatch.context() as until_then:
        until_then.setattr(threading.Thread, "start", refuse)
        for _ in range(30):
            assert stub.Join(request, timeout=20).last_sequence == 7
