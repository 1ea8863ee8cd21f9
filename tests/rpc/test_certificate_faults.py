"""What can be wrong with certificates: each is refused by the party that must, and explained in a sentence.

gRPC answers almost all of it with UNAVAILABLE, so the sentences of `own_party` and `probe` are what a person gets.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from mple.meter import Ledger
from mple.pki import Authority, approve, create_authority, install, request
from mple.rpc import AwayError, Party, Role, TlsError, TlsFiles, open_channel, own_party, probe, verify_remote
from mple.rpc.tls import split_address
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls, Served

Serving = Callable[..., Served]
COORDINATOR = "mple://test/coordinator/coordinator"


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    """Another authority of the same consortium name: only its key tells it from ours."""
    return create_authority(tmp_path / "foreign", "test")


@pytest.fixture
def north(party_tls: PartyTls) -> TlsFiles:
    return party_tls(Role.SITE, "north")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections, says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def copied(files: TlsFiles, folder: Path) -> TlsFiles:
    folder.mkdir()
    copy = TlsFiles.in_directory(folder)
    for source, target in ((files.ca, copy.ca), (files.certificate, copy.certificate), (files.key, copy.key)):
        target.touch(0o600)
        target.write_bytes(source.read_bytes())
    return copy


def call(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """The status of a Join over a channel of gRPC's own, without any check of ours before it."""
    opened = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with opened as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        try:
            stub.Join(coordinator_pb2.JoinRequest(), timeout=10)
        except grpc.RpcError as fault:
            return fault.code()
    return grpc.StatusCode.OK


def credentials(ca: Path, certificate: Path | None = None, key: Path | None = None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, certificate.read_bytes() if certificate else None
    )


# What the serving party refuses.


def test_own_channel_reaches_the_server(served: Served, north: TlsFiles) -> None:
    """The control of all refusals below: with the right files the same call is let in."""
    assert call(served.address, credentials(north.ca, north.certificate, north.key)) is grpc.StatusCode.OK


def test_server_refuses_plaintext(served: Served) -> None:
    assert call(served.address, None) is grpc.StatusCode.UNAVAILABLE
    assert served.ledger.totals().messages_received == 0


def test_server_refuses_a_caller_without_certificate(served: Served, north: TlsFiles) -> None:
    assert call(served.address, credentials(north.ca)) is grpc.StatusCode.UNAVAILABLE
    assert served.ledger.totals().messages_received == 0


@pytest.mark.parametrize(
    ("from_days", "to_days", "words"),
    [(-2, -1, "it expired on"), (1, 2, "refuses this node's certificate")],
    ids=["expired", "not yet valid"],
)
def test_server_refuses_a_certificate_out_of_date(
    served: Served, authority: Authority, tmp_path: Path, from_days: int, to_days: int, words: str
) -> None:
    files = forge(authority, tmp_path / "tls", from_days=from_days, to_days=to_days)
    assert call(served.address, credentials(files.ca, files.certificate, files.key)) is grpc.StatusCode.UNAVAILABLE
    assert served.ledger.totals().messages_received == 0
    probed = probe(served.address, files)
    assert (probed.party, probed.away) == (None, False)
    assert words in str(probed.fault)


def test_server_refuses_a_certificate_of_another_authority(
    served: Served, foreign: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    files = replace(forge(foreign, tmp_path / "tls"), ca=north.ca)
    assert call(served.address, credentials(files.ca, files.certificate, files.key)) is grpc.StatusCode.UNAVAILABLE
    assert served.ledger.totals().messages_received == 0
    probed = probe(served.address, files)
    assert not probed.away, "waiting can't mend it"
    assert "refuses this node's certificate" in str(probed.fault)
    assert "the consortium's authority" in str(probed.fault)


def test_probe_understands_a_refusal_by_alert(foreign: Authority, north: TlsFiles, tmp_path: Path) -> None:
    """gRPC hangs up without a word; other TLS servers say why."""
    strict = forge(foreign, tmp_path / "tls", uris=(COORDINATOR,))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(strict.ca))
    context.load_cert_chain(str(strict.certificate), str(strict.key))
    context.verify_mode = ssl.CERT_REQUIRED
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def refuse() -> None:
            near, _ = listener.accept()
            with near, pytest.raises(ssl.SSLError):
                context.wrap_socket(near, server_side=True)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        probed = probe(f"127.0.0.1:{listener.getsockname()[1]}", replace(north, ca=strict.ca))
        refusing.join()
    assert not probed.away
    assert "refuses this node's certificate" in str(probed.fault)
    assert "unknown_ca" in str(probed.fault)


# What the dialling party refuses.


def test_caller_refuses_a_server_of_another_authority(
    serving: Serving, foreign: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    there = serving(tls=forge(foreign, tmp_path / "tls", uris=(COORDINATOR,)))
    assert call(there.address, credentials(north.ca, north.certificate, north.key)) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(TlsError, match="certificate of another authority"):
        verify_remote(there.address, north, Role.COORDINATOR)


def test_caller_with_the_wrong_root_is_told(served: Served, foreign: Authority, north: TlsFiles) -> None:
    files = replace(north, ca=foreign.directory / "ca.crt")
    assert call(served.address, credentials(files.ca, files.certificate, files.key)) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(TlsError, match="certificate of another authority"):
        verify_remote(served.address, files, Role.COORDINATOR)
    with pytest.raises(TlsError, match="was not signed by the authority"):
        own_party(files, Role.SITE)


def test_probe_does_not_trust_the_authorities_of_the_system(
    serving: Serving, foreign: Authority, north: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = serving(tls=forge(foreign, tmp_path / "tls", uris=(COORDINATOR,)))
    monkeypatch.setenv("SSL_CERT_FILE", str(foreign.directory / "ca.crt"))
    assert "another authority" in str(probe(there.address, north).fault)


def test_caller_refuses_an_expired_server(
    serving: Serving, authority: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    there = serving(tls=forge(authority, tmp_path / "tls", uris=(COORDINATOR,), from_days=-2, to_days=-1))
    assert call(there.address, credentials(north.ca, north.certificate, north.key)) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(TlsError, match=r"certificate of .* has expired: renew it there"):
        verify_remote(there.address, north, Role.COORDINATOR)


def test_caller_refuses_a_server_that_is_not_valid_yet(
    serving: Serving, authority: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    there = serving(tls=forge(authority, tmp_path / "tls", uris=(COORDINATOR,), from_days=1, to_days=2))
    with pytest.raises(TlsError, match="not valid yet: set the clock"):
        verify_remote(there.address, north, Role.COORDINATOR)


@pytest.mark.parametrize("hosts", [("coordinator.example",), ("127.0.0.2",)])
def test_caller_refuses_a_certificate_for_another_host(
    serving: Serving, authority: Authority, north: TlsFiles, tmp_path: Path, hosts: tuple[str, ...]
) -> None:
    there = serving(tls=forge(authority, tmp_path / "tls", uris=(COORDINATOR,), hosts=hosts))
    refusals = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    assert call(there.address, credentials(north.ca, north.certificate, north.key)) in refusals
    with pytest.raises(TlsError, match=r"not made out for '127\.0\.0\.1': request it again with --host 127\.0\.0\.1"):
        verify_remote(there.address, north, Role.COORDINATOR)


def test_caller_refuses_a_server_with_a_common_name_only(
    serving: Serving, authority: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    """gRPC would take it: it still falls back to the common name."""
    there = serving(tls=forge(authority, tmp_path / "tls", uris=(), hosts=()))
    with pytest.raises(TlsError, match="not made out for"):
        verify_remote(there.address, north, Role.COORDINATOR)


def test_caller_refuses_a_server_without_identity(
    serving: Serving, authority: Authority, north: TlsFiles, tmp_path: Path
) -> None:
    there = serving(tls=forge(authority, tmp_path / "tls", uris=()))
    with pytest.raises(TlsError, match="bears 0 mple identities"):
        verify_remote(there.address, north, Role.COORDINATOR)


def test_caller_refuses_a_party_of_another_role(served: Served, north: TlsFiles) -> None:
    assert verify_remote(served.address, north, Role.COORDINATOR) == Party("test", Role.COORDINATOR, "coordinator")
    with pytest.raises(TlsError, match="is coordinator/coordinator, not a compute"):
        verify_remote(served.address, north, Role.COMPUTE)


# Who is away, and who is something else.


def test_nobody_listens(north: TlsFiles) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        free = listener.getsockname()[1]
    with pytest.raises(AwayError, match="nothing listens there; is the party started"):
        verify_remote(f"127.0.0.1:{free}", north, Role.COORDINATOR)


def test_somebody_listens_and_says_nothing(silent_port: int, north: TlsFiles) -> None:
    with pytest.raises(AwayError, match=r"answers no TLS handshake within 0\.2 s"):
        verify_remote(f"127.0.0.1:{silent_port}", north, Role.COORDINATOR, timeout_s=0.2)


def test_another_service_listens(north: TlsFiles) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            near, _ = listener.accept()
            with near:
                near.recv(4096)
                near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(TlsError, match="does not speak TLS"):
            verify_remote(f"127.0.0.1:{listener.getsockname()[1]}", north, Role.COORDINATOR)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (socket.EAI_AGAIN, "the name service does not answer"),
        (socket.EAI_NONAME, "the name is not known here"),
        (socket.EAI_FAIL, "the name is not known here"),
        (socket.EAI_SYSTEM, "the name is not known here"),
    ],
)
def test_a_name_that_can_not_be_looked_up_now(
    north: TlsFiles, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "said the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(AwayError, match=rf"coordinator\.clinic:7400 can't be looked up: {words} \(said the resolver\)"):
        verify_remote("coordinator.clinic:7400", north, Role.COORDINATOR)


def test_what_can_be_no_name(north: TlsFiles) -> None:
    with pytest.raises(TlsError, match=r"'a{64}\.clinic' can't be a host's name"):
        verify_remote(f"{'a' * 64}.clinic:7400", north, Role.COORDINATOR)


@pytest.mark.parametrize("address", ["", "host", "host:", ":7400", "host:x", "host:65536", "host:-1"])
def test_malformed_address(address: str) -> None:
    with pytest.raises(ValueError, match="write host:port"):
        split_address(address)


def test_address_of_ipv6() -> None:
    assert split_address("[::1]:7400") == ("::1", 7400)


# What is wrong with a node's own files.


def test_own_party_is_who_the_certificate_says(north: TlsFiles) -> None:
    assert own_party(north, Role.SITE) == Party("test", Role.SITE, "north")
    with pytest.raises(TlsError, match="is of site/north; this node needs one of role compute"):
        own_party(north, Role.COMPUTE)


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_missing_file(north: TlsFiles, tmp_path: Path, missing: str) -> None:
    files = copied(north, tmp_path / "tls")
    getattr(files, missing).unlink()
    with pytest.raises(TlsError, match=r"no \w+ file at .*; make one with 'mple pki request'"):
        own_party(files, Role.SITE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o004])
def test_key_that_others_can_read(north: TlsFiles, tmp_path: Path, mode: int) -> None:
    files = copied(north, tmp_path / "tls")
    files.key.chmod(mode)
    with pytest.raises(TlsError, match=f"has mode {mode:04o} and is open to others"):
        own_party(files, Role.SITE)


@pytest.mark.parametrize("damaged", ["ca", "certificate", "key"])
def test_damaged_file(north: TlsFiles, tmp_path: Path, damaged: str) -> None:
    files = copied(north, tmp_path / "tls")
    path: Path = getattr(files, damaged)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TlsError, match="can't be read"):
        own_party(files, Role.SITE)


def test_key_of_another_certificate(north: TlsFiles, party_tls: PartyTls, served: Served) -> None:
    files = replace(north, key=party_tls(Role.SITE, "south").key)
    with pytest.raises(TlsError, match="is not the key of certificate"):
        own_party(files, Role.SITE)
    probed = probe(served.address, files)
    assert not probed.away
    assert "this node's own files" in str(probed.fault)
    assert str(files.certificate) in str(probed.fault)


def test_own_certificate_out_of_date(authority: Authority, tmp_path: Path) -> None:
    for name, from_days, to_days in (("old", -2, -1), ("new", 1, 2)):
        with pytest.raises(
            TlsError, match=r"is valid from .* renew it with 'mple pki renew', or set this machine's clock"
        ):
            own_party(forge(authority, tmp_path / name, from_days=from_days, to_days=to_days), Role.SITE)


def test_own_certificate_with_a_common_name_only(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="no subject alternative name"):
        own_party(forge(authority, tmp_path / "tls", uris=(), hosts=()), Role.SITE)


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        ((), "bears 0 mple identities"),
        (("mple://test/site/a", "mple://test/site/b"), "bears 2 mple identities"),
        (("mple://test/boss/a",), "is no identity"),
        (("mple://test/site/A!",), "lower-case letters"),
    ],
)
def test_own_certificate_without_a_sound_identity(
    authority: Authority, tmp_path: Path, uris: tuple[str, ...], words: str
) -> None:
    with pytest.raises(TlsError, match=words):
        own_party(forge(authority, tmp_path / "tls", uris=uris), Role.SITE)


def test_certificates_pass_strict_checks(served: Served, north: TlsFiles) -> None:
    """Newer Pythons check RFC 5280 strictly by default."""
    context = ssl.create_default_context(cafile=str(north.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(str(north.certificate), str(north.key))
    host, port = split_address(served.address)
    with socket.create_connection((host, port)) as raw, context.wrap_socket(raw, server_hostname=host) as link:
        assert link.version() == "TLSv1.3"


def test_renewed_certificate_is_used_by_the_next_channel(served: Served, authority: Authority, tmp_path: Path) -> None:
    """A party's own way through a renewal: same key, fresh certificate, `install` again."""
    folder = tmp_path / "tls"
    asked = request(folder, Party("test", Role.SITE, "west"), [])
    install(folder, approve(authority, asked, days=1), authority.certificate_pem)
    install(folder, approve(authority, asked, days=90), authority.certificate_pem)
    files = TlsFiles.in_directory(folder)
    coordinator = verify_remote(served.address, files, Role.COORDINATOR)
    with (
        Ledger(tmp_path / "west.sqlite", "site/west") as ledger,
        open_channel(served.address, files, coordinator, ledger) as channel,
    ):
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        assert stub.Join(coordinator_pb2.JoinRequest(), timeout=10).run_id == "site/west"
