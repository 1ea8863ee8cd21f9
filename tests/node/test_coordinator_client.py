"""The line to the coordinator: every event once and in order across broken streams, plans and certificates checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mple.disk.damage import DamagedError
from mple.meter import Ledger
from mple.meter.relay import CountingRelay
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy, StoppedError, UnreachableError
from mple.node.run_events import certificate_of, ended, read_plan
from mple.node.stop import Stop
from mple.pki import Authority, create_authority
from mple.rpc import ErrorCode, MpleError, Party, Role, RpcServer, TlsFiles, build_server, guarded, open_channel
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls, Served, Streams
from tests.support.small_plan import small_plan

COORDINATOR, NORTH = Party("test", Role.COORDINATOR, "coordinator"), Party("test", Role.SITE, "north")
Then = Callable[[grpc.ServicerContext], None]
LONG_S = 600.0
LAST = 9
"""Number of the event that ends the run."""
PLAN = small_plan(run_id="run1")


def event(number: int) -> coordinator_pb2.WatchResponse:
    """The run's events: parties join, then, as the last one, the run finishes."""
    if number == LAST:
        changed = coordinator_pb2.PhaseChanged(phase=coordinator_pb2.PHASE_FINISHED)
        return coordinator_pb2.WatchResponse(sequence=number, phase_changed=changed)
    return coordinator_pb2.WatchResponse(sequence=number, party_joined=coordinator_pb2.PartyJoined(party="site/x"))


def end(_context: grpc.ServicerContext) -> None:
    """End the stream in good order."""


def wait_for_news(context: grpc.ServicerContext) -> None:
    """Keep the stream open until it breaks."""
    while context.is_active():
        time.sleep(0.02)


def refuse_with(error: MpleError) -> Then:
    def refuse(_context: grpc.ServicerContext) -> None:
        raise error

    return refuse


class EventfulCoordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Watch sends what is there after a number, at most `at_once` events, then does as `then` says."""

    consortium = "test"

    def __init__(self, then: Then, at_once: int) -> None:
        self.then, self.at_once = then, at_once
        self.asked_after: list[int] = []
        self.watches = Streams()
        self.asked, self.answers = threading.Event(), threading.Event()
        """Of reports, which are answered only when the test says so."""

    @guarded(Role.SITE)
    def Watch(
        self, request: coordinator_pb2.WatchRequest, context: grpc.ServicerContext, caller: Party
    ) -> Iterator[coordinator_pb2.WatchResponse]:
        first = request.after_sequence + 1
        self.asked_after.append(request.after_sequence)
        self.watches.enter()
        try:
            for number in range(first, min(first + self.at_once, LAST + 1)):
                yield event(number)
            self.then(context)
        finally:
            self.watches.leave()

    @guarded(Role.SITE)
    def Report(
        self, request: coordinator_pb2.ReportRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.ReportResponse:
        self.asked.set()
        self.answers.wait(30)
        return coordinator_pb2.ReportResponse()

    @guarded(Role.SITE)
    def Join(
        self, request: coordinator_pb2.JoinRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.JoinResponse:
        return coordinator_pb2.JoinResponse(run_id="run1")


def started(servicer: EventfulCoordinator, listen: str, tls: TlsFiles, ledger: Ledger) -> RpcServer:
    built = build_server(listen, tls, ledger, streams=4)
    coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, built.server)
    built.start()
    return built


Watched = Callable[..., tuple[EventfulCoordinator, CoordinatorClient, CountingRelay]]


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def watched(party_tls: PartyTls, tmp_path: Path, stop: Stop) -> Iterator[Watched]:
    """A coordinator with events, a site's line to it, and the relay between."""
    north = party_tls(Role.SITE, "north")
    with (
        Ledger(tmp_path / "coordinator.sqlite", COORDINATOR.label) as theirs,
        Ledger(tmp_path / "n.sqlite", NORTH.label) as ours,
    ):
        opened: list[Callable[[], None]] = []

        def open_line(
            then: Then = end, at_once: int = 3, budget_s: float = LONG_S
        ) -> tuple[EventfulCoordinator, CoordinatorClient, CountingRelay]:
            servicer = EventfulCoordinator(then, at_once)
            built = started(servicer, "127.0.0.1:0", party_tls(Role.COORDINATOR, "coordinator"), theirs)
            host, _, port = built.address.rpartition(":")
            relay = CountingRelay(host, int(port))
            channel = open_channel(relay.address, north, COORDINATOR, ours)
            opened.extend((channel.close, relay.close, lambda: built.stop(0.2)))
            return servicer, CoordinatorClient(channel, RetryPolicy.to(relay.address, north, stop, budget_s)), relay

        yield open_line
        for close in opened:
            close()


def numbers(line: CoordinatorClient) -> list[int]:
    return [event.sequence for event in line.events()]


# Events.


def test_join_tells_the_run(watched: Watched) -> None:
    _, line, _ = watched()
    assert line.join(coordinator_pb2.JoinRequest(protocol_version=1)) == "run1"


def test_events_of_one_stream(watched: Watched) -> None:
    servicer, line, _ = watched(at_once=100)
    assert numbers(line) == list(range(1, LAST + 1))
    assert servicer.asked_after == [0]


def test_events_go_on_after_a_cut_link(watched: Watched) -> None:
    servicer, line, relay = watched(then=wait_for_news)
    got = []
    for one in line.events():
        got.append(one.sequence)
        if one.sequence in (3, 6):
            assert relay.drop_connections() == 1
    assert got == list(range(1, LAST + 1))
    assert servicer.asked_after == [0, 3, 6]


def test_events_go_on_after_a_refusal_that_may_pass(watched: Watched) -> None:
    servicer, line, _ = watched(then=refuse_with(MpleError(ErrorCode.WRONG_PHASE)))
    assert numbers(line) == list(range(1, LAST + 1))
    assert servicer.asked_after == [0, 3, 6]


def test_events_go_on_after_a_stream_that_the_coordinator_ended(watched: Watched) -> None:
    """A coordinator that is stopped ends its streams in good order; it may be started again."""
    servicer, line, _ = watched()
    assert numbers(line) == list(range(1, LAST + 1))
    assert servicer.asked_after == [0, 3, 6]


def test_events_go_on_with_a_coordinator_that_was_started_again(
    party_tls: PartyTls, tmp_path: Path, stop: Stop
) -> None:
    north, coordinator = party_tls(Role.SITE, "north"), party_tls(Role.COORDINATOR, "coordinator")
    with (
        Ledger(tmp_path / "coordinator.sqlite", COORDINATOR.label) as theirs,
        Ledger(tmp_path / "n.sqlite", NORTH.label) as ours,
    ):
        first = started(EventfulCoordinator(wait_for_news, 4), "127.0.0.1:0", coordinator, theirs)
        with open_channel(first.address, north, COORDINATOR, ours) as channel:
            line = CoordinatorClient(channel, RetryPolicy.to(first.address, north, stop, LONG_S))
            events = line.events()
            got = [next(events).sequence for _ in range(4)]
            first.stop(0)
            again = EventfulCoordinator(end, 100)
            second = started(again, first.address, coordinator, theirs)
            got += [one.sequence for one in events]
        second.stop(0)
    assert got == list(range(1, LAST + 1))
    assert again.asked_after == [4]


def test_silence_between_events_does_not_use_up_the_budget(watched: Watched) -> None:
    """An epoch may take longer than the budget; the first fault after it must not end the node."""
    _, line, relay = watched(then=wait_for_news)
    clock_s = [0.0]
    line.retry = replace(line.retry, clock=lambda: clock_s[0])
    events = line.events()
    assert [next(events).sequence for _ in range(3)] == [1, 2, 3]
    clock_s[0] += 100 * LONG_S
    relay.drop_connections()
    assert next(events).sequence == 4


def test_a_coordinator_that_never_has_news_and_never_ends_is_given_up(watched: Watched) -> None:
    servicer, line, _ = watched(at_once=0, budget_s=0.5)
    with pytest.raises(UnreachableError, match="ended its events before the run had ended"):
        numbers(line)
    assert 1 < len(servicer.asked_after) < 100, "asks again, but does not spin"


def test_a_refused_watcher(watched: Watched) -> None:
    refuse = refuse_with(MpleError(ErrorCode.UNKNOWN_PARTY, "site/north has not joined; join first"))
    servicer, line, _ = watched(then=refuse, at_once=2)
    events = line.events()
    assert [next(events).sequence, next(events).sequence] == [1, 2]
    with pytest.raises(MpleError, match="join first"):
        next(events)
    assert servicer.asked_after == [0]


def test_stop_ends_events(watched: Watched, stop: Stop) -> None:
    _, line, relay = watched(then=wait_for_news)
    events = line.events()
    assert next(events).sequence == 1
    stop.set()
    relay.drop_connections()
    with pytest.raises(StoppedError):
        list(events)


def test_stop_wakes_whoever_waits_for_an_event(watched: Watched, stop: Stop) -> None:
    servicer, line, _ = watched(then=wait_for_news)
    events = line.events()
    assert [next(events).sequence for _ in range(3)] == [1, 2, 3]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, events)
        stop.set()
        assert isinstance(waiting.exception(timeout=30), StoppedError)
    assert servicer.watches.become(0)


def test_stop_breaks_off_a_call_that_is_not_answered(watched: Watched, stop: Stop) -> None:
    servicer, line, _ = watched()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(line.report, coordinator_pb2.ReportRequest())
        assert servicer.asked.wait(30)
        stop.set()
        assert isinstance(waiting.exception(timeout=20), StoppedError)
    servicer.answers.set()


def test_whoever_stops_listening_ends_the_stream(watched: Watched) -> None:
    servicer, line, _ = watched(then=wait_for_news)
    events = line.events()
    assert next(events).sequence == 1
    assert servicer.watches.become(1)
    assert isinstance(events, Generator)
    events.close()
    assert servicer.watches.become(0)


@pytest.mark.parametrize(
    ("phase", "over"),
    [
        (coordinator_pb2.PHASE_GATHERING, False),
        (coordinator_pb2.PHASE_SETUP, False),
        (coordinator_pb2.PHASE_TRAINING, False),
        (coordinator_pb2.PHASE_FINISHED, True),
        (coordinator_pb2.PHASE_FAILED, True),
    ],
)
def test_which_events_end_a_run(phase: coordinator_pb2.Phase, over: bool) -> None:
    changed = coordinator_pb2.PhaseChanged(phase=phase)
    assert ended(coordinator_pb2.WatchResponse(phase_changed=changed)) is over
    assert not ended(coordinator_pb2.WatchResponse(epoch_done=coordinator_pb2.EpochDone(epoch=5)))


# Reports.


def test_a_report_is_repeated_until_the_coordinator_knows(served: Served, party_tls: PartyTls) -> None:
    served.coordinator.fault = MpleError(ErrorCode.WRONG_PHASE)
    north = party_tls(Role.SITE, "north")
    line = CoordinatorClient(served.dial(), RetryPolicy.to(served.address, north, Stop(), LONG_S))
    timer = threading.Timer(0.3, lambda: setattr(served.coordinator, "fault", None))
    timer.start()
    line.report(coordinator_pb2.ReportRequest(layers_stored=coordinator_pb2.LayersStored()))
    assert served.coordinator.fault is None
    timer.join()


def test_a_failure_is_reported_once_with_code_and_text(served: Served, party_tls: PartyTls) -> None:
    north = party_tls(Role.SITE, "north")
    line = CoordinatorClient(served.dial(), RetryPolicy.to(served.address, north, Stop(), LONG_S))
    line.report_failure(MpleError(ErrorCode.STEM_REJECTED, "x" * 10_000))
    line.report_failure(OSError("disk full"))
    line.report_failure(DamagedError("plan.json", "is damaged"))  # nobody hears of it
    first, second = [report.failure for report in served.coordinator.reports]
    assert first.code == "STEM_REJECTED"
    assert first.text.startswith("STEM_REJECTED: the stem does not fit the run: xxx")
    assert len(first.text) == 500
    assert (second.code, second.text) == ("INTERNAL", "disk full")


def test_a_failure_that_nobody_takes_is_not_a_second_failure(
    served: Served, party_tls: PartyTls, caplog: pytest.LogCaptureFixture
) -> None:
    north = party_tls(Role.SITE, "north")
    line = CoordinatorClient(served.dial(), RetryPolicy.to(served.address, north, Stop(), 0.3))
    served.rpc.stop(0)
    line.report_failure(OSError("disk full"))
    assert "did not take the failure report" in caplog.text


def made(plan_json: bytes, digest: bytes | None = None) -> coordinator_pb2.PlanMade:
    return coordinator_pb2.PlanMade(plan_json=plan_json, plan_sha256=digest or PLAN.sha256())


def test_a_plan_whose_hash_is_right() -> None:
    assert read_plan(made(PLAN.to_json())) == PLAN


@pytest.mark.parametrize(
    "announced",
    [
        made(PLAN.to_json(), bytes(32)),
        made(replace(PLAN, compute="other").to_json()),
        made(b"{}"),
        made(b"\xff not json"),
        made(b"[]"),
        made(PLAN.to_json()[:-1]),
    ],
    ids=["hash", "content", "empty", "bytes", "list", "truncated"],
)
def test_a_plan_that_is_not_what_its_hash_says(announced: coordinator_pb2.PlanMade) -> None:
    with pytest.raises(MpleError) as caught:
        read_plan(announced)
    assert caught.value.code is ErrorCode.PLAN_HASH_MISMATCH


def der(files: TlsFiles) -> bytes:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_bytes(Encoding.DER)


def test_the_certificate_of_a_party_among_others(authority: Authority, party_tls: PartyTls, tmp_path: Path) -> None:
    foreign = der(forge(create_authority(tmp_path / "foreign", "test"), tmp_path / "tls"))
    south, north = (der(party_tls(Role.SITE, name)) for name in ("south", "north"))
    certificates = {"site/south": south, NORTH.label: north}
    assert certificate_of(certificates, NORTH, authority.certificate_pem) == north
    for wrong in (b"garbage", foreign, south):
        with pytest.raises(MpleError, match="no valid certificate of site/north"):
            certificate_of({NORTH.label: wrong}, NORTH, authority.certificate_pem)


def test_a_certificate_that_another_authority_made_is_not_sealed_to(authority: Authority, tmp_path: Path) -> None:
    foreign = der(forge(create_authority(tmp_path / "foreign", "test"), tmp_path / "tls"))
    with pytest.raises(MpleError, match="no valid certificate of site/north") as caught:
        certificate_of({"site/south": foreign}, NORTH, authority.certificate_pem)
    assert caught.value.code is ErrorCode.UNIDENTIFIED
