"""Certificates that are renewed or revoked while both ends run: new calls see it at once, open ones within seconds."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from mple import rounds
from mple.audit import close_audit, open_audit, read_entries
from mple.meter.relay import CountingRelay
from mple.node.retry import RetryPolicy, UnreachableError
from mple.node.stop import Stop
from mple.pki import Authority, approve, install, install_list, renew, revoke
from mple.rpc import ErrorCode, Role, TlsFiles, error_of
from mple.rpc.renewal import RevokedServerError
from mple.rpc.tls import verify_remote
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tests.support.served import PartyTls, Served

DEADLINE_S = 20.0


def copy_of(files: TlsFiles, folder: Path) -> TlsFiles:
    """Files that a test may change."""
    shutil.copytree(files.key.parent, folder)
    return TlsFiles.in_directory(folder)


def held_open(over: threading.Event) -> Iterator[compute_pb2.FeedRequest]:
    """A site that sends one message and then none, until it ends its stream."""
    yield compute_pb2.FeedRequest()
    over.wait(DEADLINE_S)


def joins(stub: coordinator_pb2_grpc.CoordinatorServiceStub) -> bool:
    """Whether the party is let in."""
    try:
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    except grpc.RpcError:
        return False
    return True


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up_at = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return condition()


def serial_of(files: TlsFiles) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def revoke_at(authority: Authority, serial: int, *nodes: TlsFiles) -> None:
    """Revoke a certificate and give the list to nodes."""
    content = revoke(authority, [serial], "privilege withdrawn").read_bytes()
    for files in nodes:
        install_list(files.ca.parent, content)


@pytest.fixture
def own_files(party_tls: PartyTls, tmp_path: Path) -> tuple[TlsFiles, TlsFiles]:
    """The server's and the site's files, for this test alone."""
    return (
        copy_of(party_tls(Role.COORDINATOR, "coordinator"), tmp_path / "coordinator"),
        copy_of(party_tls(Role.SITE, "revocable"), tmp_path / "revocable"),
    )


def test_a_revoked_caller_is_refused_and_others_are_not(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    server, site = own_files
    served = serving(tls=server)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, "revocable"))
    stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    revoke_at(authority, serial_of(site), server)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    error = error_of(refused.value)
    assert error is not None
    assert (error.code, error.retryable) == (ErrorCode.CERTIFICATE_REVOKED, False)
    assert "privilege withdrawn" in error.detail
    others = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, "north"))
    assert others.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == "site/north"


def test_a_revoked_callers_open_stream_is_cut(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    server, site = own_files
    served = serving(tls=server)
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(Role.SITE, "revocable"))
    over = threading.Event()
    answers = stub.Feed(held_open(over), timeout=DEADLINE_S)
    next(answers)
    revoke_at(authority, serial_of(site), server)
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert served.compute.feeds.become(0)
    over.set()


def test_a_revoked_server_is_not_dialled(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    server, site = own_files
    renewed = approve(authority, renew(server.ca.parent))
    install(server.ca.parent, renewed, authority.certificate_pem)
    served = serving(tls=server)
    assert verify_remote(served.address, site, Role.COORDINATOR).name == "coordinator"
    revoke_at(authority, serial_of(server), site)
    with pytest.raises(ValueError, match=r"the certificate of .* was revoked on .*: it needs another one"):
        verify_remote(served.address, site, Role.COORDINATOR)


def test_a_server_that_is_revoked_is_left(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    """Open calls are broken off and none is made, until the server has another certificate."""
    server, site = own_files
    install(server.ca.parent, approve(authority, renew(server.ca.parent)), authority.certificate_pem)
    served = serving(tls=server)
    served.use_files("revocable", site)
    channel = served.dial(Role.SITE, "revocable")
    over = threading.Event()
    feed = compute_pb2_grpc.ComputeServiceStub(channel).Feed(held_open(over), timeout=DEADLINE_S)
    next(feed)
    revoke_at(authority, serial_of(server), site)
    with pytest.raises(grpc.RpcError) as broken:
        next(feed)
    assert isinstance(broken.value, grpc.Call)
    assert broken.value.code() is grpc.StatusCode.CANCELLED
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
    with pytest.raises(RevokedServerError, match="was revoked on"):
        stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    with pytest.raises(UnreachableError, match="was revoked on"):
        RetryPolicy.to(served.address, site, Stop(), DEADLINE_S).call(
            lambda: stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
        )

    install(server.ca.parent, approve(authority, renew(server.ca.parent)), authority.certificate_pem)
    assert within(lambda: joins(stub)), "the server has a new certificate"
    over.set()
    assert not served.balance().only_received


def test_a_damaged_or_older_list_changes_nothing_and_is_in_the_audit(
    authority: Authority,
    own_files: tuple[TlsFiles, TlsFiles],
    serving: Callable[..., Served],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, site = own_files
    served = serving(tls=server)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, "revocable"))
    older = revoke(authority, [serial_of(server)]).read_bytes()
    revoke_at(authority, serial_of(site), server)
    held = server.ca.with_name("ca.crl")
    open_audit(tmp_path, "coordinator/coordinator")
    try:
        for content in (None, older, b"rubbish", held.read_bytes()[:-60], None):
            if content is not None:
                held.write_bytes(content)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        held.unlink()
        assert not joins(stub)
    finally:
        close_audit()
    entries = [entry for entry in read_entries(tmp_path / "audit.jsonl") if entry.what == "revoked_list"]
    assert [entry.result for entry in entries] == ["ok", *["INTERNAL"] * 4]
    assert "older than list" in caplog.text
    assert "stays in force" in caplog.text


def test_a_renewal_that_is_half_done_does_not_disturb_an_open_channel(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    server, site = own_files
    served = serving(tls=server)
    served.use_files("revocable", site)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, "revocable"))
    assert joins(stub)
    fresh = approve(authority, renew(site.ca.parent, new_key=True))
    held = site.certificate.read_bytes()
    for half in (fresh, b"rubbish", held[:-100]):
        site.certificate.write_bytes(half)
        assert joins(stub)
    site.certificate.unlink()
    assert joins(stub)
    install(site.ca.parent, fresh, authority.certificate_pem)
    revoke_at(authority, x509.load_pem_x509_certificate(held).serial_number, server)
    assert joins(stub)


def test_the_old_connection_ends_with_its_last_call(
    authority: Authority, own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    server, site = own_files
    served = serving(tls=server)
    served.use_files("revocable", site)
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    channel = served.dial(Role.SITE, "revocable", relay.address)
    over = threading.Event()
    feed = compute_pb2_grpc.ComputeServiceStub(channel).Feed(held_open(over), timeout=DEADLINE_S)
    next(feed)
    install(site.ca.parent, approve(authority, renew(site.ca.parent)), authority.certificate_pem)
    assert joins(coordinator_pb2_grpc.CoordinatorServiceStub(channel))
    assert relay.open_connections == 2
    over.set()
    assert list(feed) == []
    assert within(lambda: relay.open_connections == 1)
    channel.close()
    relay.close()
    assert served.balance().whole


def test_a_closed_channel_and_a_stopped_server_leave_no_thread(
    own_files: tuple[TlsFiles, TlsFiles], serving: Callable[..., Served]
) -> None:
    """Nor a look at the files, which one thread of the process takes for all channels."""

    def watching() -> tuple[int, int]:
        threads = sum(thread.name in ("channel", "revoked") for thread in threading.enumerate())
        return threads, len(rounds._looks)

    assert within(lambda: watching()[0] == 0)
    looks = watching()[1]
    served = serving(tls=own_files[0])
    served.dial(Role.SITE, "revocable")
    assert watching() == (1, looks + 1)
    served.close()
    assert within(lambda: watching() == (0, looks))


@pytest.mark.parametrize("new_key", [False, True])
def test_an_open_channel_takes_the_renewed_certificate(
    authority: Authority,
    own_files: tuple[TlsFiles, TlsFiles],
    serving: Callable[..., Served],
    new_key: bool,
) -> None:
    """The old certificate is revoked after the renewal: only calls that show the new one get through."""
    server, site = own_files
    served = serving(tls=server)
    served.use_files("revocable", site)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.SITE, "revocable"))
    stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    old = serial_of(site)
    install(site.ca.parent, approve(authority, renew(site.ca.parent, new_key=new_key)), authority.certificate_pem)
    revoke_at(authority, old, server)
    for _ in range(3):
        assert stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id == "site/revocable"
    assert served.balance().whole
    ledgers = sqlite3.connect(served.merged())
    assert ledgers.execute("SELECT COUNT(*) FROM messages WHERE method = 'Join'").fetchone() == (16,)
    ledgers.close()
