"""The consortium's certificate authority and the way of a certificate: request, approve, install.

Keys are EC P-256. A node's private key is made on its own machine and never leaves it: what travels is a signing
request there and a certificate back. A certificate carries host names and addresses for TLS and, as a URI, the
identity that the protocol goes by (RFC 5280, section 4.2.1.6).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mple.rpc import Party, Role, TlsFiles, own_party
from mple.rpc.tls import UNSOUND

_BACKDATED = timedelta(minutes=5)
CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
NODE_CERTIFICATE, NODE_KEY, NODE_REQUEST = "node.crt", "node.key", "node.csr"


class PkiError(ValueError):
    """A certificate operation can't be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A folder with the authority's certificate and key."""

    directory: Path

    @property
    def certificate_pem(self) -> bytes:
        """What every node needs."""
        return _read(self.directory / CA_CERTIFICATE, "authority certificate")

    @property
    def consortium(self) -> str:
        """The name that all its certificates share."""
        certificate = x509.load_pem_x509_certificate(self.certificate_pem)
        return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)


@dataclass(frozen=True, slots=True)
class Request:
    """What a signing request asks for."""

    party: Party
    hosts: tuple[str, ...]


def create_authority(directory: Path, consortium: str, days: int = 3650) -> Authority:
    """Make a new authority: a self-signed root that may sign nodes only (path length 0).

    Raises:
        PkiError: The folder already holds one.
    """
    Party(consortium, Role.COORDINATOR, "check")
    if (directory / CA_KEY).exists() or (directory / CA_CERTIFICATE).exists():
        raise PkiError(f"{directory} already holds an authority; choose another folder")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{consortium} mple authority"),
        ]
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    _write_key(directory / CA_KEY, key)
    (directory / CA_CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(directory)


def request(directory: Path, party: Party, hosts: Sequence[str]) -> bytes:
    """Make a node's key in `directory` and return the signing request (PEM); the key stays there.

    Args:
        directory: The node's TLS folder.
        party: Who the node is.
        hosts: Names and addresses under which others reach it.

    Raises:
        PkiError: The folder already holds a key, or a host is malformed.
    """
    if (directory / NODE_KEY).exists():
        raise PkiError(f"{directory / NODE_KEY} already exists; a node's key is made once")
    names = _names(party, hosts)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    signing_request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(party))
        .add_extension(names, critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    _write_key(directory / NODE_KEY, key)
    (directory / NODE_REQUEST).write_bytes(signing_request)
    return signing_request


def describe_request(request_pem: bytes) -> Request:
    """Who asks, and for which hosts.

    Raises:
        PkiError: It is no sound request of ours.
    """
    try:
        signing_request = x509.load_pem_x509_csr(request_pem)
        names = signing_request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key, genuine = signing_request.public_key(), signing_request.is_signature_valid
    except UNSOUND as fault:
        raise PkiError(f"this is no signing request of 'mple pki request': {fault}") from None
    if not genuine:
        raise PkiError("the request's signature is wrong: it was altered on its way")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("the request is for another key than EC P-256; make it with 'mple pki request'")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise PkiError(f"the request bears {len(uris)} identities; needs one")
    try:
        party = Party.parse(uris[0])
    except ValueError as fault:
        raise PkiError(str(fault)) from None
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return Request(party, (*names.get_values_for_type(x509.DNSName), *addresses))


def approve(authority: Authority, request_pem: bytes, days: int = 90) -> bytes:
    """Sign a request and return the certificate (PEM). Look at `describe_request` first.

    Raises:
        PkiError: The request is unsound or for another consortium.
    """
    asked = describe_request(request_pem)
    if asked.party.consortium != authority.consortium:
        raise PkiError(
            f"the request is for consortium {asked.party.consortium!r}, this authority is of {authority.consortium!r}"
        )
    signing_request = x509.load_pem_x509_csr(request_pem)
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    key = load_pem_private_key(_read(authority.directory / CA_KEY, "authority key"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{authority.directory / CA_KEY} is no EC key")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_subject(asked.party))
        .issuer_name(issuer.subject)
        .public_key(signing_request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + timedelta(days=days), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(_names(asked.party, asked.hosts), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def install(directory: Path, certificate_pem: bytes, ca_pem: bytes) -> Party:
    """Put a certificate and its authority beside the node's key, after checking that they belong together.

    Raises:
        PkiError: They don't; nothing is changed then.
    """
    if not (directory / NODE_KEY).exists():
        raise PkiError(f"no key in {directory}; start with 'mple pki request'")
    fresh = {NODE_CERTIFICATE: certificate_pem, CA_CERTIFICATE: ca_pem}
    for name, content in fresh.items():
        (directory / f"{name}.new").write_bytes(content)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
        files = TlsFiles(
            directory / f"{CA_CERTIFICATE}.new", directory / f"{NODE_CERTIFICATE}.new", directory / NODE_KEY
        )
        uris = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        role = Party.parse(uris.get_values_for_type(x509.UniformResourceIdentifier)[0]).role
        party = own_party(files, role)
    except (IndexError, *UNSOUND) as fault:
        for name in fresh:
            (directory / f"{name}.new").unlink()
        raise PkiError(f"the certificate can't be installed: {str(fault) or 'the authority did not sign it'}") from None
    for name in fresh:
        os.replace(directory / f"{name}.new", directory / name)
    return party


def throwaway(directory: Path, parties: Sequence[Party], hosts: Sequence[str], folders: Sequence[Path]) -> None:
    """An authority for one simulation, and a certificate for each party in its folder."""
    authority = create_authority(directory, parties[0].consortium, days=30)
    for party, folder in zip(parties, folders, strict=True):
        certificate = approve(authority, request(folder, party, hosts), days=30)
        install(folder, certificate, authority.certificate_pem)


def _subject(party: Party) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, party.consortium),
            x509.NameAttribute(NameOID.COMMON_NAME, party.label),
        ]
    )


def _names(party: Party, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(party.uri)]
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not host or not host.isascii() or any(sign in host for sign in " /:"):
                raise PkiError(f"host {host!r} is neither a name nor an address") from None
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PkiError(f"no {what} at {path}; make an authority with 'mple pki init'") from None
