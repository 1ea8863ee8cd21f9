"""Both ends' ledgers: every message of every kind of call, once on each side, of equal size."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from mple.meter.relay import CountingRelay
from mple.pki import Authority
from mple.rpc import ErrorCode, Role, error_of
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import Served

Serving = Callable[..., Served]
DEADLINE_S = 20.0


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    ledgers = sqlite3.connect(path)
    try:
        return ledgers.execute(query).fetchall()
    finally:
        ledgers.close()


def batch(number: int, size: int = 100) -> compute_pb2.FeedRequest:
    """A batch of two samples, other in size than every other."""
    return compute_pb2.FeedRequest(
        batch=common_pb2.MorphedBatch(
            request_id=number,
            key_ref=common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(range(32))),
            split=common_pb2.SPLIT_TRAIN,
            samples=2,
            codes=bytes(8 + size + number),
            labels=bytes(4),
        )
    )


def call_unary(served: Served) -> int:
    coordinator_pb2_grpc.CoordinatorServiceStub(served.dial()).Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    return 2


def call_unary_in_other_ways(served: Served) -> int:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    request = coordinator_pb2.JoinRequest(protocol_version=3)
    response, ended = stub.Join.with_call(request, timeout=DEADLINE_S)
    assert (response.last_sequence, ended.code()) == (3, grpc.StatusCode.OK)
    assert stub.Join.future(request, timeout=DEADLINE_S).result().last_sequence == 3
    return 4


def call_unary_stream(served: Served) -> int:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    events = list(stub.Watch(coordinator_pb2.WatchRequest(after_sequence=7), timeout=DEADLINE_S))
    assert [event.sequence for event in events] == list(range(7))
    return 1 + 7


def call_stream_unary(served: Served) -> int:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    chunks = (coordinator_pb2.UploadLayerRequest(data=bytes(1000 + number)) for number in range(5))
    assert stub.UploadLayer(chunks, timeout=DEADLINE_S).released
    assert served.coordinator.uploaded_bytes == 5 * 1000 + 10
    return 5 + 1


def call_stream_stream(served: Served) -> int:
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    answers = list(stub.Feed((batch(number) for number in range(6)), timeout=DEADLINE_S))
    assert [answer.samples.request_id for answer in answers] == list(range(6))
    return 6 + 6


@pytest.mark.parametrize(
    "call", [call_unary, call_unary_in_other_ways, call_unary_stream, call_stream_unary, call_stream_stream]
)
def test_every_message_is_in_both_ledgers(served: Served, call: Callable[[Served], int]) -> None:
    messages = call(served)
    ledgers = served.balance()
    assert ledgers.whole, ledgers.offenders
    assert ledgers.matched == messages


def test_empty_messages_balance_too(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S)
    merged = served.merged()
    assert rows(merged, "SELECT DISTINCT serialized_bytes, framed_bytes FROM messages") == [(0, 5)]
    assert rows(merged, "SELECT COUNT(*) FROM messages") == [(4,)]


def test_a_row_says_what_the_message_was(served: Served) -> None:
    served.ledger.run = "run7"
    served.ledger.phase = "training"
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    sent = batch(0, size=333)
    list(stub.Feed(iter([sent]), timeout=DEADLINE_S))
    columns = (
        "run, phase, peer, direction, method, kind, idx, payload_bytes, label_bytes, serialized_bytes, framed_bytes, "
        "samples, key_ref"
    )
    received, answered = rows(
        served.merged(), f"SELECT {columns} FROM messages WHERE node = 'coordinator/coordinator' ORDER BY direction"
    )
    size = len(sent.SerializeToString())
    assert received == (
        *("run7", "training", "site/north", "received", "Feed", "data", 0, 333 + 8, 4, size, size + 5),
        *(2, "north:1:00010203"),
    )
    assert answered[3:6] == ("sent", "Feed", "request")


def test_calls_side_by_side_do_not_mix(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())

    def call_often() -> None:
        for count in range(20):
            list(stub.Watch(coordinator_pb2.WatchRequest(after_sequence=count % 3), timeout=DEADLINE_S))

    threads = [threading.Thread(target=call_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledgers = served.balance()
    assert ledgers.whole, ledgers.offenders
    assert ledgers.matched == 4 * sum(1 + count % 3 for count in range(20))


def test_calls_of_two_sites_are_told_apart_by_certificate(served: Served) -> None:
    for name in ("north", "south"):
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, name))
        assert stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == f"site/{name}"
    found = rows(
        served.merged(), "SELECT DISTINCT peer FROM messages WHERE node = 'coordinator/coordinator' ORDER BY peer"
    )
    assert found == [("site/north",), ("site/south",)]


def test_a_caller_without_identity_is_in_the_ledgers_as_unknown(
    served: Served, authority: Authority, tmp_path: Path
) -> None:
    files = forge(authority, tmp_path / "tls", uris=())
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    with grpc.secure_channel(served.address, credentials) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert rows(served.merged(), "SELECT peer, direction, method FROM messages") == [("unknown", "received", "Join")]


def test_a_refused_call_balances_with_what_reached_the_server(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.COMPUTE, "compute"))
    with pytest.raises(grpc.RpcError):
        stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S)
    ledgers = served.balance()
    assert ledgers.whole
    assert ledgers.matched == 1


def test_a_call_turned_away_at_the_door_is_named_as_lost(serving: Serving) -> None:
    served = serving(streams=0)
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    hold = threading.Event()
    open_feeds = [stub.Feed(_held(hold)) for _ in range(8)]
    assert served.compute.feeds.become(8)
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.Feed(iter([batch(1)]), timeout=DEADLINE_S))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    hold.set()
    for feed in open_feeds:
        list(feed)
    ledgers = served.balance()
    assert (ledgers.matched, ledgers.only_received, ledgers.size_differs) == (0, 0, 0)
    assert ledgers.lost + ledgers.only_sent <= 1  # the refusal may come before the first message is made


def test_a_stream_that_is_cut_leaves_sent_messages_without_twin_and_nothing_else(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(address=relay.address))
    answers = stub.Feed(batch(number, size=50_000) for number in itertools.count())
    for _ in range(20):
        next(answers)
    relay.drop_connections()
    with pytest.raises(grpc.RpcError):
        list(answers)
    assert served.compute.feeds.become(0), "the server never noticed that its caller is gone"
    relay.close()
    merged = served.merged()
    ledgers = served.balance()
    assert ledgers.matched >= 2 * 20
    assert (ledgers.only_received, ledgers.size_differs) == (0, 0)
    twice = "SELECT COUNT(*) FROM messages GROUP BY node, call_id, direction, idx HAVING COUNT(*) > 1"
    assert rows(merged, twice) == []


def test_a_server_whose_ledger_fails_answers_nothing_and_says_little(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    _break(served.folder / "server.sqlite")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert "table" not in str(caught.value.details())
    error = error_of(caught.value)
    assert error is not None
    assert error.code is ErrorCode.STORAGE_FULL


def test_a_caller_whose_ledger_fails_makes_no_call(served: Served, tmp_path: Path) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    _break(served.folder / "site-north.sqlite")
    with pytest.raises(grpc.RpcError):
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert served.ledger.totals().messages_received == 0


def _held(until: threading.Event) -> Iterator[compute_pb2.FeedRequest]:
    until.wait()
    yield from ()


def _break(path: Path) -> None:
    ledgers = sqlite3.connect(path)
    ledgers.execute("DROP TABLE messages")
    ledgers.close()
