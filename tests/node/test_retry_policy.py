"""Repeated calls: what ends the waiting at once, what is worth waiting for, and for how long."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from mple.node.retry import RetryPolicy, RetryState, StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.pki import create_authority
from mple.rpc import AwayError, ErrorCode, MpleError, Role, TlsFiles, verify_remote
from mple.rpc.settings import DIALLING_OPTIONS
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls, Served

Stub = coordinator_pb2_grpc.CoordinatorServiceStub
LONG_S = 600.0
DEADLINE_S = 20.0


class Attempts:
    """Counts attempts and fails the first ones."""

    def __init__(self, *failures: Callable[[], object]) -> None:
        self.count = 0
        self._failures = failures

    def __call__(self) -> str:
        self.count += 1
        if self.count <= len(self._failures):
            self._failures[self.count - 1]()
            pytest.fail("the attempt was to fail")
        return "answer"


@pytest.fixture
def north(party_tls: PartyTls) -> TlsFiles:
    return party_tls(Role.SITE, "north")


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def away() -> None:
    raise AwayError("away")


def reporting(served: Served) -> Callable[[], object]:
    stub = Stub(served.dial())
    return lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S)


def patient(served: Served, files: TlsFiles, budget_s: float = LONG_S) -> RetryPolicy:
    return RetryPolicy.to(served.address, files, Stop(), budget_s)


def test_an_answer_needs_one_attempt(served: Served, north: TlsFiles) -> None:
    attempts = Attempts()
    assert patient(served, north).call(attempts) == "answer"
    assert attempts.count == 1


# What ends the waiting at once.


def test_a_refusal(served: Served, north: TlsFiles) -> None:
    served.coordinator.fault = MpleError(ErrorCode.UNKNOWN_PARTY, "no site north")
    attempts = Attempts(reporting(served))
    with pytest.raises(MpleError) as caught:
        patient(served, north).call(attempts)
    assert (caught.value.code, caught.value.detail) == (ErrorCode.UNKNOWN_PARTY, "no site north")
    assert attempts.count == 1


def test_a_call_that_the_party_does_not_have(served: Served, north: TlsFiles) -> None:
    """A refusal without a code of ours, as another program behind the port gives it."""
    stub = Stub(served.dial())
    attempts = Attempts(lambda: stub.GetStem(coordinator_pb2.GetStemRequest(), timeout=DEADLINE_S))
    with pytest.raises(MpleError, match=f"{served.address} answered UNIMPLEMENTED") as caught:
        patient(served, north).call(attempts)
    assert caught.value.code is ErrorCode.INTERNAL
    assert attempts.count == 1


@pytest.mark.parametrize("fault", ["our certificate", "our root"])
def test_a_certificate_fault(served: Served, north: TlsFiles, tmp_path: Path, fault: str) -> None:
    """gRPC says UNAVAILABLE, as if the party were away; the probe knows better."""
    foreign = create_authority(tmp_path / "foreign", "test")
    forged = forge(foreign, tmp_path / "tls")
    files = replace(forged, ca=north.ca) if fault == "our certificate" else replace(north, ca=forged.ca)
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    with grpc.secure_channel(served.address, credentials, options=DIALLING_OPTIONS) as channel:
        attempts = Attempts(lambda: Stub(channel).Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S))
        with pytest.raises(UnreachableError, match=r"refuses this node's certificate|another authority"):
            patient(served, files).call(attempts)
    assert attempts.count == 1


def test_a_certificate_fault_before_the_first_call(served: Served, north: TlsFiles) -> None:
    attempts = Attempts(lambda: verify_remote(served.address, north, Role.COMPUTE))
    with pytest.raises(UnreachableError, match="is coordinator/coordinator, not a compute"):
        patient(served, north).call(attempts)
    assert attempts.count == 1


def test_a_fault_of_our_own(served: Served, north: TlsFiles) -> None:
    def broken() -> None:
        raise KeyError("ours")

    attempts = Attempts(broken)
    with pytest.raises(KeyError):
        patient(served, north).call(attempts)
    assert attempts.count == 1


def test_stop_before_and_while_waiting(nowhere: str, north: TlsFiles) -> None:
    stop = Stop()
    retry = RetryPolicy.to(nowhere, north, stop, LONG_S)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(retry.call, Attempts(*[away] * 1000))
        stop.set()
        assert isinstance(waiting.exception(timeout=30), StoppedError)
    attempts = Attempts(away)
    with pytest.raises(StoppedError):
        retry.call(attempts)
    assert attempts.count == 1


# What is worth waiting for.


def test_a_party_that_is_not_ready_yet(served: Served, north: TlsFiles) -> None:
    served.coordinator.fault = MpleError(ErrorCode.WRONG_PHASE, "no layers yet")
    report = reporting(served)
    tries = 0

    def attempt() -> object:
        nonlocal tries
        tries += 1
        if tries == 3:
            served.coordinator.fault = None
        return report()

    patient(served, north).call(attempt)
    assert tries == 3


def test_a_party_that_comes_up_later(
    nowhere: str, north: TlsFiles, serving: Callable[..., Served], tmp_path: Path
) -> None:
    tries = 0

    def attempt() -> str:
        nonlocal tries
        tries += 1
        if tries == 3:
            serving(listen=nowhere)
        return verify_remote(nowhere, north, Role.COORDINATOR).label

    retry = RetryPolicy.to(nowhere, north, Stop(), LONG_S)
    assert retry.call(attempt) == "coordinator/coordinator"
    assert tries == 3


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_name_service_that_is_away_for_a_while(
    served: Served, north: TlsFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """At a start: the first thing that a node does is to look who is there."""
    looked_up, real = 0, socket.getaddrinfo

    def resolver(*what: Any, **how: Any) -> Any:
        nonlocal looked_up
        looked_up += 1
        if looked_up < 4:
            raise socket.gaierror(number, "said the resolver")
        return real(*what, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    address = served.address.replace("127.0.0.1", "localhost")
    retry = RetryPolicy.to(address, north, Stop(), LONG_S)
    assert retry.call(lambda: verify_remote(address, north, Role.COORDINATOR)).label == "coordinator/coordinator"
    assert looked_up >= 4


def test_a_stream_says_that_it_was_let_in(served: Served, north: TlsFiles) -> None:
    """Seen over a real link: the last event was long ago, and the server goes away."""
    stub = Stub(served.dial())

    def watch() -> None:
        served.coordinator.fault = MpleError(ErrorCode.GOING_DOWN)
        for _ in stub.Watch(coordinator_pb2.WatchRequest()):
            pytest.fail("there is no event")

    outage, retry = RetryState(tries=7, seen_s=1.0, spent_s=LONG_S), patient(served, north)
    with pytest.raises(grpc.RpcError) as broken:
        watch()
    retry.pause(broken.value, outage, retry.clock(), lasting=True)
    assert (outage.tries, outage.spent_s) == (1, 0.0)


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 8 * 1024 * 1024])
def test_a_message_that_the_party_does_not_take_for_its_size(served: Served, north: TlsFiles, size: int) -> None:
    request = coordinator_pb2.ReportRequest(failure=coordinator_pb2.Failure(text="x" * size))
    attempts = Attempts(lambda: Stub(served.dial()).Report(request, timeout=DEADLINE_S))
    with pytest.raises(MpleError, match=r"larger than max .*; a message may have 4194304 bytes"):
        patient(served, north).call(attempts)
    assert attempts.count == 1


# For how long.


def test_a_party_that_stays_away_is_given_up(nowhere: str, north: TlsFiles) -> None:
    attempts = Attempts(*[away] * 1000)
    with pytest.raises(UnreachableError, match=rf"gave up on {nowhere} after 0\.5 s: .*nothing listens there"):
        RetryPolicy.to(nowhere, north, Stop(), 0.5).call(attempts)
    assert attempts.count > 1


def test_a_party_that_never_gets_ready_is_given_up_with_its_own_words(served: Served, north: TlsFiles) -> None:
    served.coordinator.fault = MpleError(ErrorCode.WRONG_PHASE, "no layers yet")
    attempts = Attempts(*[reporting(served)] * 1000)
    with pytest.raises(UnreachableError, match=r"after 0\.3 s: WRONG_PHASE: .*: no layers yet"):
        patient(served, north, 0.3).call(attempts)


def test_a_party_that_answers_the_probe_but_no_call_is_given_up_with_gprcs_words(
    served: Served, north: TlsFiles
) -> None:
    with grpc.insecure_channel(served.address) as channel:
        call = Stub(channel).Join
        attempts = Attempts(*[lambda: call(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)] * 1000)
        with pytest.raises(UnreachableError, match="breaks off calls: UNAVAILABLE"):
            patient(served, north, 0.3).call(attempts)
