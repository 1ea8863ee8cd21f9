"""Twelve faults of certificates and some of ports, each real: the connection is refused, and `doctor` says why.

gRPC's own answer to most of them is the same UNAVAILABLE.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from mple.pki import Authority, create_authority
from mple.rpc import Role, RpcServer, TlsError, TlsFiles, verify_remote
from tests.support.certificates import forge
from tests.support.looking import called, diagnosed, revoke, says
from tests.support.served import PartyTls

Node = Callable[..., RpcServer]
COORDINATOR = "mple://test/coordinator/coordinator"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def north(party_tls: PartyTls, tmp_path: Path) -> TlsFiles:
    """A copy that a test may spoil."""
    folder = tmp_path / "north"
    shutil.copytree(party_tls(Role.SITE, "north").key.parent, folder)
    return TlsFiles.in_directory(folder)


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    """Another authority of the same name: only its key tells it from ours."""
    return create_authority(tmp_path / "foreign", "test")


def refused_by_caller(address: str, files: TlsFiles) -> None:
    with pytest.raises(TlsError):
        verify_remote(address, files, Role.COORDINATOR)


def test_control_all_is_well(node: Node, north: TlsFiles) -> None:
    there = node()
    found = diagnosed(there.address, north)
    assert (found.own.severity, found.peer.severity) == ("ok", "ok")
    assert found.steps_gone() == [
        *("name", "port", "tls", "chain", "dates", "host name", "identity", "revocation"),
        *("admission", "answer", "clock", "protocol", "throughput"),
    ]
    assert called(there.address, north) is grpc.StatusCode.OK


def test_1_no_client_certificate(node: Node, north: TlsFiles) -> None:
    there = node()
    assert called(there.address, north, with_certificate=False) is UNAVAILABLE
    north.certificate.unlink()
    found = diagnosed(there.address, north)
    says(found.own_fault(), "files", ["no certificate file at", "node.crt"], ["mple pki request"])
    says(found.peer_fault(), "admission", ["lets nobody in without a certificate"], ["mple pki request"])


def test_2_client_certificate_of_another_authority(
    node: Node, north: TlsFiles, foreign: Authority, tmp_path: Path
) -> None:
    there = node()
    files = forge(foreign, tmp_path / "tls")
    shutil.copy(north.ca, files.ca)
    assert called(there.address, files) is UNAVAILABLE
    found = diagnosed(there.address, files)
    says(found.own_fault(), "chain", ["another authority of the same name"], ["compare ca.crt on both machines"])
    says(found.peer_fault(), "admission", ["refuses this node", "another authority"], ["issued by that authority"])


def test_3_expired_client_certificate(node: Node, authority: Authority, tmp_path: Path) -> None:
    there = node()
    files = forge(authority, tmp_path / "tls", from_days=-2, to_days=-1)
    assert called(there.address, files) is UNAVAILABLE
    found = diagnosed(there.address, files)
    says(found.own_fault(), "dates", ["certificate", "node.crt has expired at"], ["renew it here"])
    says(found.peer_fault(), "admission", ["refuses this node", "has expired at"], ["renew it here", "clock"])


def test_4_client_certificate_not_yet_valid(node: Node, authority: Authority, tmp_path: Path) -> None:
    there = node()
    files = forge(authority, tmp_path / "tls", from_days=1, to_days=2)
    assert called(there.address, files) is UNAVAILABLE
    found = diagnosed(there.address, files)
    says(found.own_fault(), "dates", ["is not valid yet", "clock says"], ["set the clock"])
    says(found.peer_fault(), "admission", ["refuses this node", "not valid yet"], ["set the clock"])


def test_5_wrong_root_at_the_client(node: Node, north: TlsFiles, foreign: Authority) -> None:
    there = node()
    shutil.copy(foreign.directory / "ca.crt", north.ca)
    assert called(there.address, north) is UNAVAILABLE
    refused_by_caller(there.address, north)
    found = diagnosed(there.address, north)
    says(found.own_fault(), "chain", ["not of the one in", "ca.crt"], ["install the consortium's where it differs"])
    says(found.peer_fault(), "chain", [f"the certificate of {there.address}"], ["compare ca.crt on both machines"])
    assert "admission" not in found.steps_gone()


@pytest.mark.parametrize("hosts", [("coordinator.example",), ("127.0.0.2",)])
def test_6_name_mismatch_at_the_server(
    node: Node, north: TlsFiles, authority: Authority, tmp_path: Path, hosts: tuple[str, ...]
) -> None:
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), hosts=hosts))
    assert called(there.address, north) in (UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    refused_by_caller(there.address, north)
    cause = ["is not made out for 127.0.0.1", *hosts]
    says(diagnosed(there.address, north).peer_fault(), "host name", cause, ["issued again there", "--host 127.0.0.1"])


def test_7_expired_server_certificate(node: Node, north: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), from_days=-2, to_days=-1))
    assert called(there.address, north) is UNAVAILABLE
    refused_by_caller(there.address, north)
    fault = diagnosed(there.address, north).peer_fault()
    says(fault, "dates", [f"the certificate of {there.address} has expired"], ["renew it there"])


def test_server_certificate_not_yet_valid(node: Node, north: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), from_days=1, to_days=2))
    refused_by_caller(there.address, north)
    says(diagnosed(there.address, north).peer_fault(), "dates", ["is not valid yet"], ["set the clock"])


def test_8_key_does_not_match_the_certificate(node: Node, north: TlsFiles, party_tls: PartyTls) -> None:
    there = node()
    shutil.copy(party_tls(Role.SITE, "south").key, north.key)
    assert called(there.address, north) is UNAVAILABLE
    found = diagnosed(there.address, north)
    says(found.own_fault(), "key", ["does not match", "node.crt", "another certificate"], ["issued for this key"])
    says(found.peer_fault(), "admission", ["none to show"], ["issued for this key"])


def test_9_server_certificate_with_a_common_name_only(
    node: Node, north: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    """gRPC itself takes it where the common name is the name dialled: it still falls back to it."""
    there = node(forge(authority, tmp_path / "tls", uris=(), hosts=(), common_name="localhost"))
    address = there.address.replace("127.0.0.1", "localhost")
    assert called(address, north) is grpc.StatusCode.OK
    refused_by_caller(address, north)
    faults = diagnosed(address, north).peer_faults()
    cause = ["a common name only (localhost)", "subject alternative name"]
    says(faults["host name"], "host name", cause, ["issue it anew there", "--host localhost"])
    says(faults["identity"], "identity", ["nobody can tell whose"], ["mple pki request"])


def test_10_a_site_that_serves(node: Node, north: TlsFiles, party_tls: PartyTls) -> None:
    there = node(party_tls(Role.SITE, "south"))
    assert called(there.address, north) is UNAVAILABLE
    refused_by_caller(there.address, north)
    faults = diagnosed(there.address, north).peer_faults()
    assert set(faults) == {"usage", "identity"}
    fault = faults["identity"]
    says(fault, "identity", ["site/south", "coordinator or compute", "a site never serves"], ["check the address"])


def test_10_another_role_than_configured(node: Node, north: TlsFiles) -> None:
    there = node()
    with pytest.raises(TlsError):
        verify_remote(there.address, north, Role.COMPUTE)
    fault = diagnosed(there.address, north, Role.COMPUTE).peer_fault()
    says(
        fault, "identity", ["is of coordinator/coordinator", "role compute is needed"], ["address in the configuration"]
    )


def test_11_another_consortium(node: Node, north: TlsFiles, tmp_path: Path) -> None:
    other = create_authority(tmp_path / "other", "other")
    there = node(forge(other, tmp_path / "tls", uris=("mple://other/coordinator/coordinator",)))
    assert called(there.address, north) is UNAVAILABLE
    refused_by_caller(there.address, north)
    faults = diagnosed(there.address, north).peer_faults()
    assert set(faults) == {"chain", "identity"}
    says(faults["chain"], "chain", ["another authority (other mple authority)"], ["compare ca.crt"])
    says(faults["identity"], "identity", ["consortium 'other'", "this node of 'test'"], ["same consortium"])


def test_11_a_caller_of_another_consortium_under_the_same_authority(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    there = node()
    files = forge(authority, tmp_path / "tls", uris=("mple://other/site/north",))
    assert called(there.address, files) is grpc.StatusCode.PERMISSION_DENIED
    fault = diagnosed(there.address, files).peer_fault()
    says(fault, "identity", ["consortium 'test'", "this node of 'other'"], ["same consortium"])


def test_12_revoked_server_certificate(node: Node, north: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    coordinator = forge(authority, tmp_path / "tls", uris=(COORDINATOR,), to_days=30)
    there = node(coordinator)
    assert diagnosed(there.address, north).peer.severity == "ok"
    revoke(authority, [coordinator.certificate], [north.ca.with_name("ca.crl")])
    refused_by_caller(there.address, north)
    says(diagnosed(there.address, north).peer_fault(), "revocation", ["was revoked on"], ["mple pki request"])


def test_12_revoked_client_certificate(node: Node, authority: Authority, tmp_path: Path) -> None:
    coordinator = forge(authority, tmp_path / "coordinator", uris=(COORDINATOR,), to_days=30)
    files = forge(authority, tmp_path / "tls", to_days=30)
    revoke(authority, [files.certificate], [coordinator.ca.with_name("ca.crl")])
    there = node(coordinator)
    assert called(there.address, files) in (UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    says(diagnosed(there.address, files).peer_fault(), "answer", ["refuses this node", "revoked"], ["mple pki request"])


def test_client_certificate_without_identity(node: Node, authority: Authority, tmp_path: Path) -> None:
    there = node()
    files = forge(authority, tmp_path / "tls", uris=(), to_days=30)
    assert called(there.address, files) is grpc.StatusCode.UNAUTHENTICATED
    found = diagnosed(there.address, files)
    says(found.own_fault(), "identity", ["nobody can tell whose", "0 mple identities"], ["one mple:// URI"])
    says(found.peer_fault(), "answer", ["refuses this node", "0 mple URIs"], ["mple pki request"])


def test_client_certificate_that_is_for_serving_only(node: Node, authority: Authority, tmp_path: Path) -> None:
    there = node()
    files = forge(authority, tmp_path / "tls", to_days=30, usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert called(there.address, files) is UNAVAILABLE
    found = diagnosed(there.address, files)
    says(found.own_fault(), "usage", ["not for dialling", "lacks clientAuth"], ["mple pki approve"])
    says(found.peer_fault(), "admission", ["refuses this node", "lacks clientAuth"], ["mple pki approve"])


def test_server_certificate_that_is_for_dialling_only(
    node: Node, north: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), to_days=30, usages=usages))
    refused_by_caller(there.address, north)
    fault = diagnosed(there.address, north).peer_fault()
    says(fault, "usage", ["not for serving", "lacks serverAuth"], ["issued there by mple pki approve"])


def test_server_certificate_with_a_malformed_extension(
    node: Node, north: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), to_days=30, garbled=True))
    fault = diagnosed(there.address, north).peer_fault()
    says(fault, "chain", [f"the certificate of {there.address} can't be read"], ["mple pki approve"])


# Ports.


def test_plaintext_client_to_a_tls_port(node: Node, north: TlsFiles) -> None:
    there = node()
    assert called(there.address, None) is UNAVAILABLE
    tls = next(one for one in diagnosed(there.address, north).peer.findings if one.step == "tls")
    assert tls.severity == "ok"
    assert "answers no plaintext client" in tls.cause


def test_tls_client_to_a_plaintext_port(north: TlsFiles) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            for _ in range(2):  # the look at the port, and the handshake
                near, _ = listener.accept()
                with near:
                    if near.recv(4096):
                        near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        found = diagnosed(address, north)
    says(found.peer_fault(), "tls", ["does not speak TLS", "plaintext port"], ["check the port"])
    assert found.steps_gone() == ["name", "port", "tls"]
    rest = found.peer.findings[-1]
    assert rest.severity == "skipped"
    assert "throughput" in rest.cause


def test_nobody_listens(north: TlsFiles) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert called(address, north) is UNAVAILABLE
    says(diagnosed(address, north).peer_fault(), "port", ["nothing listens at", address], ["start the node", "listen"])


def test_somebody_listens_and_says_nothing(north: TlsFiles) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        found = diagnosed(f"127.0.0.1:{listener.getsockname()[1]}", north)
    says(found.peer_fault(), "tls", ["answers no TLS handshake within 2 s"], ["stopped or overloaded"])


def test_unknown_name(north: TlsFiles) -> None:
    found = diagnosed("no-such-host.invalid:7400", north)
    says(found.peer_fault(), "name", ["'no-such-host.invalid' is not known here"], ["name service"])
    assert found.steps_gone() == ["name"]


def test_server_certificate_without_the_name_for_tls(
    node: Node, north: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    there = node(forge(authority, tmp_path / "tls", uris=(COORDINATOR,), server_names=(), to_days=30))
    refused_by_caller(there.address, north)
    fault = diagnosed(there.address, north).peer_fault()
    says(fault, "identity", ["lacks the name coordinator.coordinator.test.mple.internal"], ["mple pki renew"])


def test_two_faults_of_one_certificate_are_both_named(
    node: Node, north: TlsFiles, foreign: Authority, tmp_path: Path
) -> None:
    there = node(forge(foreign, tmp_path / "tls", uris=(COORDINATOR,), hosts=("elsewhere",), from_days=-2, to_days=-1))
    files = replace(north)
    assert set(diagnosed(there.address, files).peer_faults()) == {"chain", "dates", "host name"}
