"""Envelopes open for one key, one context and as they were sealed; certificates are checked before sealing to them."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.pki import Authority, SealError, create_authority, open_sealed, seal, verify_certificate
from mple.rpc import Party, Role, TlsFiles
from tests.support.certificates import forge
from tests.support.served import PartyTls

INFO = b"run7 site/south site/north 1"
NORTH = Party("test", Role.SITE, "north")


@pytest.fixture
def north(party_tls: PartyTls) -> TlsFiles:
    return party_tls(Role.SITE, "north")


def der(files: TlsFiles) -> bytes:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("size", [0, 1, 32, 10_000])
def test_seal_and_open(north: TlsFiles, size: int) -> None:
    secret = secrets.token_bytes(size)
    envelope = seal(der(north), secret, INFO)
    assert open_sealed(north.key, envelope, INFO) == secret
    assert size < 16 or secret not in envelope
    assert seal(der(north), secret, INFO) != envelope, "an envelope does not tell whether it holds the same secret"


@pytest.mark.parametrize("info", [b"", INFO + b" ", INFO[:-1], b"run8 site/south site/north 1"])
def test_another_context_does_not_open(north: TlsFiles, info: bytes) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_sealed(north.key, seal(der(north), bytes(32), INFO), info)


def test_another_key_does_not_open(north: TlsFiles, party_tls: PartyTls) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_sealed(party_tls(Role.SITE, "south").key, seal(der(north), bytes(32), INFO), INFO)


def test_altered_bytes_do_not_open(north: TlsFiles) -> None:
    envelope = seal(der(north), b"the consortium's secret of 32 B.", INFO)
    for place in range(len(envelope)):
        altered = bytearray(envelope)
        altered[place] ^= 0x04
        with pytest.raises(SealError, match="does not open"):
            open_sealed(north.key, bytes(altered), INFO)


@settings(max_examples=50)
@given(garbage=st.binary(max_size=200))
def test_garbage_does_not_open(party_tls: PartyTls, garbage: bytes) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_sealed(party_tls(Role.SITE, "north").key, garbage, INFO)


@pytest.mark.parametrize("cut", [slice(None, -1), slice(1, None), slice(None, 65), slice(0)])
def test_truncated_envelopes_do_not_open(north: TlsFiles, cut: slice) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_sealed(north.key, seal(der(north), bytes(32), INFO)[cut], INFO)


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA", "P-384"],
)
def test_seal_takes_p256_only(
    authority: Authority, tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    files = forge(authority, tmp_path / "tls", key=key)
    with pytest.raises(SealError, match="P-256"):
        seal(der(files), bytes(32), INFO)
    with pytest.raises(SealError, match="is no EC P-256 key"):
        open_sealed(files.key, bytes(113), INFO)


def test_certificate_of_the_party_under_the_authority(north: TlsFiles, authority: Authority) -> None:
    verify_certificate(der(north), authority.certificate_pem, NORTH)


def test_certificate_of_another_party(party_tls: PartyTls, authority: Authority) -> None:
    with pytest.raises(SealError, match=r"is of mple://test/site/south, not of mple://test/site/north"):
        verify_certificate(der(party_tls(Role.SITE, "south")), authority.certificate_pem, NORTH)


def test_certificate_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    """What a coordinator that wants the consortium secret would hand out."""
    foreign = forge(create_authority(tmp_path / "foreign", "test"), tmp_path / "tls")
    with pytest.raises(SealError, match="not one of this consortium's authority"):
        verify_certificate(der(foreign), authority.certificate_pem, NORTH)


def test_an_altered_certificate_is_refused_wherever_it_was_altered(north: TlsFiles, authority: Authority) -> None:
    sound = x509.load_der_x509_certificate(der(north))
    for place in range(len(der(north))):
        altered = bytearray(der(north))
        altered[place] ^= 0x20
        try:
            verify_certificate(bytes(altered), authority.certificate_pem, NORTH)
        except SealError:
            continue
        # Some bits outside of what is signed change nothing.
        assert x509.load_der_x509_certificate(bytes(altered)).tbs_certificate_bytes == sound.tbs_certificate_bytes
