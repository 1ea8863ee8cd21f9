"""The server: its port, its bounds, its health, renewed certificates, callers that vanish, and its end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mple.doctor.diagnosis import ShakeSeen
from mple.doctor.probing import shake_hands
from mple.meter import Ledger
from mple.meter.relay import CountingRelay
from mple.pki import Authority, approve, install, request
from mple.rpc import Party, PortError, Role, TlsFiles, build_server, probe
from mple.rpc.settings import DIALLING_OPTIONS, RECEIVE_LIMIT_BYTES, SERVING_OPTIONS
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tests.support.served import PartyTls, Served

Serving = Callable[..., Served]
DEADLINE_S = 20.0
SLACK = 8
"""Calls beyond the streams that a server takes."""


def endless(until: threading.Event) -> Iterator[compute_pb2.FeedRequest]:
    """A site that feeds nothing until it ends its stream."""
    until.wait()
    yield from ()


def rpc_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rpc_")]


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up_at = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return condition()


# Its port.


def test_a_free_port_is_taken_and_told(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_an_address_of_ipv6_is_told_so_that_it_can_be_dialled(serving: Serving) -> None:
    try:
        served = serving(listen="[::1]:0")
    except PortError:
        pytest.skip("this machine has no IPv6")
    assert served.address.startswith("[::1]:")


def test_a_second_server_on_one_port_is_refused(served: Served, party_tls: PartyTls, tmp_path: Path) -> None:
    """Linux would let both listen and split the callers between them."""
    files = party_tls(Role.COORDINATOR, "coordinator")
    with (
        Ledger(tmp_path / "second.sqlite", "coordinator/coordinator") as ledger,
        pytest.raises(PortError, match=f"can't listen on {served.address}: another program has the port"),
    ):
        build_server(served.address, files, ledger, streams=1)


def test_another_machines_address_is_refused(party_tls: PartyTls, tmp_path: Path) -> None:
    files = party_tls(Role.COORDINATOR, "coordinator")
    with (
        Ledger(tmp_path / "ledgers.sqlite", "coordinator/coordinator") as ledger,
        pytest.raises(PortError, match="not this machine's address"),
    ):
        build_server("192.0.2.1:0", files, ledger, streams=1)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_in_the_environment_is_not_used(served: Served, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Or every run on one machine fails wherever a proxy is set for browsers."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    assert stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == "site/north"


# Its bounds.


def test_more_streams_than_allowed_are_refused_and_not_left_waiting(serving: Serving) -> None:
    served = serving(streams=2)
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    over = threading.Event()
    open_feeds = [stub.Feed(endless(over)) for _ in range(2 + SLACK)]
    assert served.compute.feeds.become(2 + SLACK)

    with pytest.raises(grpc.RpcError) as caught:
        next(stub.Feed(endless(over), timeout=DEADLINE_S))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    over.set()
    for feed in open_feeds:
        assert list(feed) == []
    assert served.compute.feeds.become(0)
    assert list(stub.Feed(iter(()), timeout=DEADLINE_S)) == [], "there is room again"


def test_calls_with_one_request_start_no_thread_each(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    started: list[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    for _ in range(100):
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert len([name for name in started if name.startswith(("rpc", "requests", "messages"))]) < 20


def test_a_message_beyond_the_limit_is_refused(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    chunk = coordinator_pb2.UploadLayerRequest(data=bytes(RECEIVE_LIMIT_BYTES + 1))
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadLayer(iter([chunk]), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.coordinator.uploaded_bytes == 0


def test_keepalive_of_both_ends_agrees() -> None:
    """Or the serving end takes the dialling one's pings for abuse and hangs up."""
    dialling, serving_ = dict(DIALLING_OPTIONS), dict(SERVING_OPTIONS)
    assert len(dialling) == len(DIALLING_OPTIONS)
    assert len(serving_) == len(SERVING_OPTIONS)
    shortest_allowed_ms = serving_["grpc.http2.min_ping_interval_without_data_ms"]
    assert shortest_allowed_ms < dialling["grpc.keepalive_time_ms"]
    for name in ("keepalive_permit_without_calls", "keepalive_timeout_ms", "max_receive_message_length"):
        assert dialling[f"grpc.{name}"] == serving_[f"grpc.{name}"], name
    assert serving_["grpc.so_reuseport"] == 0
    assert dialling["grpc.enable_retries"] == 0, "a message that gRPC sends again is in no ledger"


# Its health.


def test_health_while_serving_and_while_stopping(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.dial())
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == _health("SERVING")
    states = stub.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert next(states).status == _health("SERVING")
    stopping = threading.Thread(target=served.rpc.stop, args=(DEADLINE_S,))
    stopping.start()
    assert next(states).status == _health("NOT_SERVING")
    states.cancel()
    stopping.join(DEADLINE_S)
    assert not stopping.is_alive()


def test_health_of_a_service_that_is_not_there(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.dial())
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="mple.v1.Nothing"), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# Renewed certificates.


def test_renewed_certificates_are_used_without_a_restart(
    serving: Serving, authority: Authority, party_tls: PartyTls, tmp_path: Path
) -> None:
    files = _coordinator(authority, tmp_path / "tls", "coordinator")
    served = serving(tls=files)
    north = party_tls(Role.SITE, "north")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    assert shown(served, north) == x509.load_pem_x509_certificate(files.certificate.read_bytes())

    renewed = _coordinator(authority, tmp_path / "renewed", "coordinator")
    second = x509.load_pem_x509_certificate(renewed.certificate.read_bytes())
    for source, target in ((renewed.certificate, files.certificate), (renewed.key, files.key)):
        os.replace(source, target)

    assert shown(served, north) == second
    assert stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == "site/north"


@pytest.mark.parametrize("damage", ["garbage", "another key's", "missing"])
def test_a_renewal_that_is_not_whole_leaves_the_old_certificate_in_use(
    serving: Serving, authority: Authority, party_tls: PartyTls, tmp_path: Path, damage: str
) -> None:
    files = _coordinator(authority, tmp_path / "tls", "coordinator")
    served = serving(tls=files)
    if damage == "missing":
        files.certificate.unlink()
    else:
        other = party_tls(Role.COORDINATOR, "bureau").certificate.read_bytes()
        files.certificate.write_bytes(b"-----" if damage == "garbage" else other)
    probed = probe(served.address, party_tls(Role.SITE, "north"))
    assert probed.party == Party("test", Role.COORDINATOR, "coordinator")


# Callers that vanish.


def test_a_feed_ends_when_its_caller_closes(served: Served) -> None:
    channel = served.dial()
    stub = compute_pb2_grpc.ComputeServiceStub(channel)
    feed = stub.Feed(endless(threading.Event()))
    assert served.compute.feeds.become(1)
    channel.close()
    assert served.compute.feeds.become(0)
    assert feed.done()


def test_a_feed_ends_when_its_link_is_cut(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(address=relay.address))
    over = threading.Event()
    feed = stub.Feed(endless(over))
    assert served.compute.feeds.become(1)
    assert relay.drop_connections() == 1
    assert served.compute.feeds.become(0)
    with pytest.raises(grpc.RpcError) as caught:
        list(feed)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    over.set()
    relay.close()


def test_an_upload_that_is_cut_is_not_a_fault_of_the_server(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    channel = served.dial()
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
    over = threading.Event()

    def chunks() -> Iterator[coordinator_pb2.UploadLayerRequest]:
        yield coordinator_pb2.UploadLayerRequest(data=bytes(1000))
        over.wait()

    answer = stub.UploadLayer.future(chunks())
    assert served.coordinator.uploads.become(1)
    channel.close()
    assert served.coordinator.uploads.become(0)
    over.set()
    assert answer.code() is grpc.StatusCode.CANCELLED
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_server_that_sends_to_a_caller_who_does_not_read_is_not_held_up_when_it_leaves(served: Served) -> None:
    channel = served.dial()
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
    stream = stub.Watch(coordinator_pb2.WatchRequest(after_sequence=10**9))
    assert next(stream).sequence == 0
    assert served.coordinator.watches.become(1)
    channel.close()
    assert served.coordinator.watches.become(0), "the generator was never closed"


def test_vanished_callers_give_their_places_back(serving: Serving) -> None:
    served = serving(streams=1)
    for _ in range(3 * (1 + SLACK)):
        channel = served.dial()
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        assert next(stub.Watch(coordinator_pb2.WatchRequest(after_sequence=10**9))).sequence == 0
        channel.close()
    assert served.coordinator.watches.become(0)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    assert within(lambda: _joins(stub)), "every place is still held"


# Its end.


def test_stop_ends_open_streams_after_the_grace_and_leaves_no_thread(served: Served) -> None:
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    feed = stub.Feed(endless(threading.Event()))
    assert served.compute.feeds.become(1)
    served.rpc.stop(0.1)
    with pytest.raises(grpc.RpcError):
        list(feed)
    assert served.compute.feeds.become(0)
    assert within(lambda: not rpc_threads()), rpc_threads()


def test_stop_lets_a_stream_end_within_the_grace(served: Served) -> None:
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial())
    over = threading.Event()
    feed = stub.Feed(endless(over))
    assert served.compute.feeds.become(1)
    stopping = threading.Thread(target=served.rpc.stop, args=(DEADLINE_S,))
    stopping.start()
    over.set()
    assert list(feed) == []
    stopping.join(DEADLINE_S)
    assert not stopping.is_alive()


def test_stop_before_start_and_twice(party_tls: PartyTls, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledgers.sqlite", "coordinator/coordinator") as ledger:
        built = build_server("127.0.0.1:0", party_tls(Role.COORDINATOR, "coordinator"), ledger, streams=1)
        built.stop(0.1)
        built.stop(0.1)


def test_a_closed_channel_makes_no_call(served: Served) -> None:
    with served.dial() as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        assert stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == "site/north"
    channel.close()
    with pytest.raises(ValueError, match="closed channel"):
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)


def shown(served: Served, files: TlsFiles) -> x509.Certificate:
    """The certificate that a server shows to a new connection."""
    host, _, port = served.address.rpartition(":")
    seen = shake_hands(host, host, int(port), files, DEADLINE_S)
    assert isinstance(seen, ShakeSeen)
    return x509.load_der_x509_certificate(seen.certificate_der)


def _joins(stub: coordinator_pb2_grpc.CoordinatorServiceStub) -> bool:
    answer = stub.Join.future(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert answer.code() in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED)
    return bool(answer.code() is grpc.StatusCode.OK)


def _coordinator(authority: Authority, folder: Path, name: str) -> TlsFiles:
    asked = request(folder, Party("test", Role.COORDINATOR, name), ["127.0.0.1"])
    install(folder, approve(authority, asked), authority.certificate_pem)
    return TlsFiles.in_directory(folder)


def _health(name: str) -> int:
    return int(health_pb2.HealthCheckResponse.ServingStatus.Value(name))
