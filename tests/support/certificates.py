"""Certificates that `mple.pki` would never issue, signed by a real authority: what hostile and broken parties bring."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtensionOID, NameOID

from mple.pki import Authority
from mple.rpc import Party, TlsFiles


def forge(
    authority: Authority,
    folder: Path,
    *,
    uris: Sequence[str] = ("mple://test/site/north",),
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    from_days: float = -1,
    to_days: float = 1,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (),
    common_name: str = "127.0.0.1",
    garbled: bool = False,
    server_names: Sequence[str] | None = None,
) -> TlsFiles:
    """Files of a certificate valid from and to so many days from now; without URIs and hosts it has a CN only.

    `server_names` are by default those that the parties of the URIs should have.

    `usages` are of the extended key usage, which is left out when empty; `garbled` puts rubbish there instead.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    ca_key = load_pem_private_key((authority.directory / "ca.key").read_bytes(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    for host in (*hosts, *(_server_names(uris) if server_names is None else server_names)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate_pem).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=from_days))
        .not_valid_after(now + timedelta(days=to_days))
    )
    if names:
        certificate = certificate.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        certificate = certificate.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if garbled:
        rubbish = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"\x01rubbish")
        certificate = certificate.add_extension(rubbish, critical=False)
    folder.mkdir(parents=True, exist_ok=True)
    files = TlsFiles.in_directory(folder)
    files.ca.write_bytes(authority.certificate_pem)
    files.certificate.write_bytes(certificate.sign(ca_key, SHA256()).public_bytes(Encoding.PEM))
    files.key.touch(0o600)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _server_names(uris: Sequence[str]) -> Iterator[str]:
    for uri in uris:
        with suppress(ValueError):
            party = Party.parse(uri)
            if party.role.serves:
                yield party.server_name
