"""Certificates that are renewed or revoked while both ends run: new calls see it at once, open ones within seconds."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from served import PartyTls, Served

from mple.pki import Authority, approve, install, install_list, renew, revoke
from mple.rpc import ErrorCode, Role, TlsFiles, error_of
from mple.rpc.tls import verify_remote
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc

DEADLINE_S = 20.0


def copy_of(files: TlsFiles, folder: Path) -> TlsFiles:
    """Files that a test may change."""
    shutil.copytree(files.key.parent, folder)
    return TlsFiles.in_directory(folder)


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
        copy_of(party_tls(Role.COORDINATOR, "office"), tmp_path / "office"),
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

    def endless() -> Iterator[compute_pb2.FeedRequest]:
        yield compute_pb2.FeedRequest()
        over.wait(DEADLINE_S)

    answers = stub.Feed(endless(), timeout=DEADLINE_S)
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
    assert verify_remote(served.address, site, Role.COORDINATOR).name == "office"
    revoke_at(authority, serial_of(server), site)
    with pytest.raises(ValueError, match=r"the certificate of .* was revoked on .*: it needs another one"):
        verify_remote(served.address, site, Role.COORDINATOR)


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
    books = sqlite3.connect(served.merged())
    assert books.execute("SELECT COUNT(*) FROM messages WHERE method = 'Join'").fetchone() == (16,)
    books.close()
