"""A certificate's way: request on the node, approval by the authority, installation on the node."""

from __future__ import annotations

import base64
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from mple.pki import (
    Authority,
    PkiError,
    approve,
    create_authority,
    describe_request,
    install,
    renew,
    request,
    throwaway,
)
from mple.rpc import Party, Role, TlsFiles, own_party
from tests.support.certificates import forge

NORTH = Party("test", Role.SITE, "north")
HOSTS = ["north.example", "10.0.0.7", "::1"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def signing_request(
    uris: list[str], key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, hosts: Sequence[str] = ()
) -> bytes:
    """A request that another program than ours made."""
    uri_names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names = x509.SubjectAlternativeName([*uri_names, *(x509.DNSName(host) for host in hosts)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.add_extension(names, critical=False).sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_request_approve_install(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    asked = request(folder, NORTH, HOSTS)
    assert (folder / "node.csr").read_bytes() == asked
    assert describe_request(asked).party == NORTH
    assert set(describe_request(asked).hosts) == set(HOSTS)

    certificate = approve(authority, asked)

    assert install(folder, certificate, authority.certificate_pem) == NORTH
    assert own_party(TlsFiles.in_directory(folder), Role.SITE) == NORTH
    assert sorted(contents(folder)) == ["ca.crt", "node.crt", "node.csr", "node.key"]


def test_what_a_certificate_says(authority: Authority, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(approve(authority, request(tmp_path / "tls", NORTH, HOSTS), days=30))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NORTH.uri]
    assert names.get_values_for_type(x509.DNSName) == ["north.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now
    assert timedelta(days=29) < certificate.not_valid_after_utc - now <= timedelta(days=30)


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.COMPUTE])
def test_a_server_bears_its_role_and_name_for_tls(authority: Authority, tmp_path: Path, role: Role) -> None:
    asked = request(tmp_path / "tls", Party("test", role, "bureau"), ["bureau.example"])
    certificate = x509.load_pem_x509_certificate(approve(authority, asked))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["bureau.example", f"bureau.{role}.test.mple.internal"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    issued = authority.index().certificates[-1]
    assert issued.hosts == ("bureau.example",), "people are shown the hosts that were asked for"
    install(tmp_path / "tls", certificate.public_bytes(Encoding.PEM), authority.certificate_pem)
    renewed = describe_request(renew(tmp_path / "tls"))
    assert renewed.hosts == ("bureau.example",)


RESERVED = (
    "coordinator.coordinator.test.mple.internal",
    "COORDINATOR.Coordinator.Test.MPLE.Internal",
    "coordinator.coordinator.test.mple.internal.",
    "*.coordinator.test.mple.internal",
    "mple.internal",
)


_NOT_OURS = r"names in mple\.internal say who a server is|neither a name nor an address"


@pytest.mark.parametrize("host", RESERVED)
@pytest.mark.parametrize("role", list(Role))
def test_nobody_asks_for_a_name_that_says_who_a_server_is(
    authority: Authority, tmp_path: Path, host: str, role: Role
) -> None:
    """Neither by our command nor by a request of another program."""
    party = Party("test", role, "north")
    with pytest.raises(PkiError, match=_NOT_OURS):
        request(tmp_path / "tls", party, ["north.example", host])
    assert not (tmp_path / "tls").exists()
    foreign = signing_request([party.uri], ec.generate_private_key(ec.SECP256R1()), ["north.example", host])
    for read in (describe_request, lambda pem: approve(authority, pem)):
        with pytest.raises(PkiError, match=_NOT_OURS):
            read(foreign)


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.COMPUTE])
def test_a_node_that_listens_names_its_hosts(authority: Authority, tmp_path: Path, role: Role) -> None:
    party = Party("test", role, "bureau")
    with pytest.raises(PkiError, match=f"no host for {role}/bureau, which listens: .*--host NAME"):
        request(tmp_path / "tls", party, [])
    assert not (tmp_path / "tls").exists(), "the folder is free for the right request"
    foreign = signing_request([party.uri], ec.generate_private_key(ec.SECP256R1()))
    for read in (describe_request, lambda pem: approve(authority, pem)):
        with pytest.raises(PkiError, match=f"no host for {role}/bureau"):
            read(foreign)


def test_the_authority_signs_nodes_only(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.certificate_pem)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert authority.consortium == "test"


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    short = create_authority(tmp_path / "authority", "test", days=10)
    certificate = x509.load_pem_x509_certificate(approve(short, request(tmp_path / "tls", NORTH, []), days=90))
    assert certificate.not_valid_after_utc == x509.load_pem_x509_certificate(short.certificate_pem).not_valid_after_utc


def test_keys_and_their_folders_are_open_to_their_owner_only(tmp_path: Path) -> None:
    create_authority(tmp_path / "authority", "test")
    request(tmp_path / "tls", NORTH, [])
    assert [mode(tmp_path / name) for name in ("authority", "tls")] == [0o700, 0o700]
    assert [mode(tmp_path / name) for name in ("authority/ca.key", "tls/node.key")] == [0o600, 0o600]


def test_an_authority_is_never_written_over(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "authority", "test")
    before = contents(authority.directory)
    with pytest.raises(PkiError, match="already holds an authority"):
        create_authority(authority.directory, "test")
    (authority.directory / "ca.key").rename(tmp_path / "kept-elsewhere")
    with pytest.raises(PkiError, match="already holds an authority"):
        create_authority(authority.directory, "test")
    assert (authority.directory / "ca.crt").read_bytes() == before["ca.crt"]


def test_a_nodes_key_is_made_once(tmp_path: Path) -> None:
    request(tmp_path, NORTH, [])
    before = contents(tmp_path)
    with pytest.raises(PkiError, match="a node's key is made once"):
        request(tmp_path, NORTH, [])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("host", ["", "a b", "host:7400", "http://host", "hôst"])
def test_malformed_hosts(tmp_path: Path, host: str) -> None:
    with pytest.raises(PkiError, match="neither a name nor an address"):
        request(tmp_path / "tls", NORTH, [host])
    assert not (tmp_path / "tls").exists(), "nothing is made of a malformed request"


@pytest.mark.parametrize("consortium", ["", "Test", "a/b", "x" * 64])
def test_malformed_consortium(tmp_path: Path, consortium: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        create_authority(tmp_path / "authority", consortium)
    assert not (tmp_path / "authority").exists()


def test_an_altered_request_is_refused_wherever_it_was_altered(tmp_path: Path) -> None:
    sound = x509.load_pem_x509_csr(request(tmp_path, NORTH, HOSTS))
    der = sound.public_bytes(Encoding.DER)
    for place in range(len(der)):
        for sign in (0x01, 0x20, 0xFF):
            altered = bytearray(der)
            altered[place] ^= sign
            pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n"
            pem %= base64.encodebytes(bytes(altered))
            try:
                described = describe_request(pem)
            except PkiError:
                continue
            # Some bits outside of what is signed change nothing.
            assert x509.load_pem_x509_csr(pem).tbs_certrequest_bytes == sound.tbs_certrequest_bytes, place
            assert described.party == NORTH


@pytest.mark.parametrize("text", [b"", b"-----BEGIN CERTIFICATE REQUEST-----", b"\x00\xff"])
def test_what_is_no_request(text: bytes) -> None:
    with pytest.raises(PkiError, match="no signing request"):
        describe_request(text)


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        ([NORTH.uri, "mple://test/coordinator/coordinator"], "bears 2 identities"),
        (["https://north.example"], "is no identity"),
        (["mple://test/boss/north"], "is no identity"),
    ],
)
def test_requests_with_an_unsound_identity(authority: Authority, uris: list[str], words: str) -> None:
    asked = signing_request(uris, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(PkiError, match=words):
        approve(authority, asked)


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA", "P-384"],
)
def test_keys_that_nothing_can_be_sealed_to(
    authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    with pytest.raises(PkiError, match=r"another key than EC P-256"):
        approve(authority, signing_request([NORTH.uri], key))


def test_a_request_for_another_consortium(authority: Authority, tmp_path: Path) -> None:
    asked = request(tmp_path, Party("other", Role.SITE, "north"), [])
    with pytest.raises(PkiError, match="is for consortium 'other', this authority is of 'test'"):
        approve(authority, asked)


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="make an authority with 'mple pki init'"):
        approve(Authority(tmp_path / "nowhere"), request(tmp_path, NORTH, []))


def test_install_checks_before_it_changes_anything(authority: Authority, tmp_path: Path) -> None:
    folder, other = tmp_path / "tls", tmp_path / "other"
    own = approve(authority, request(folder, NORTH, []))
    install(folder, own, authority.certificate_pem)
    foreign = create_authority(tmp_path / "foreign", "test")
    anothers = approve(authority, request(other, NORTH, []))
    key = load_pem_private_key((folder / "node.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    expired = forge(authority, tmp_path / "expired", from_days=-2, to_days=-1, key=key).certificate.read_bytes()
    before = contents(folder)
    for certificate, ca, words in (
        (anothers, authority.certificate_pem, "is not the key of certificate"),
        (own, foreign.certificate_pem, "the authority did not sign it"),
        (approve(foreign, (folder / "node.csr").read_bytes()), authority.certificate_pem, "did not sign it"),
        (expired, authority.certificate_pem, "is valid from"),
        (b"garbage", authority.certificate_pem, "can't be installed"),
        (own, b"garbage", "can't be installed"),
        (authority.certificate_pem, authority.certificate_pem, "can't be installed"),
    ):
        with pytest.raises(PkiError, match=words):
            install(folder, certificate, ca)
        assert contents(folder) == before


def test_install_without_a_key(authority: Authority, tmp_path: Path) -> None:
    certificate = approve(authority, request(tmp_path / "tls", NORTH, []))
    (tmp_path / "tls" / "node.key").unlink()
    with pytest.raises(PkiError, match="start with 'mple pki request'"):
        install(tmp_path / "tls", certificate, authority.certificate_pem)


def test_throwaway_consortium(tmp_path: Path) -> None:
    parties = [NORTH, Party("test", Role.COMPUTE, "compute"), Party("test", Role.COORDINATOR, "coordinator")]
    folders = [tmp_path / party.name for party in parties]
    throwaway(tmp_path / "authority", parties, ["127.0.0.1"], folders)
    for party, folder in zip(parties, folders, strict=True):
        assert own_party(TlsFiles.in_directory(folder), party.role) == party
