"""The consortium's certificate authority and the way of a certificate: request, approve, install, renew, revoke.

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
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mple.pki.issued import REASONS, IssuedCertificate, IssuedIndex, write_whole
from mple.rpc import Party, Role, TlsError, TlsFiles, own_party
from mple.rpc.revoked import REVOKED_LIST, RevokedList, read_revoked
from mple.rpc.tls_errors import UNSOUND

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

    def index(self) -> IssuedIndex:
        """What it has issued."""
        return IssuedIndex(self.directory)

    def issuer(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Its certificate and its private key.

        Raises:
            PkiError: One is missing or no EC key.
        """
        key = load_pem_private_key(_read(self.directory / CA_KEY, "authority key"), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{self.directory / CA_KEY} is no EC key")
        return x509.load_pem_x509_certificate(self.certificate_pem), key


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
    issuer, key = authority.issuer()
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
    authority.index().add(
        IssuedCertificate(
            serial=certificate.serial_number,
            identity=asked.party.uri,
            hosts=asked.hosts,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
    )
    return certificate.public_bytes(Encoding.PEM)


def revoke(authority: Authority, serials: Sequence[int], reason: str = "unspecified", days: int = 30) -> Path:
    """Revoke certificates and sign the list that says so, `ca.crl` in the authority's folder; returns its path.

    Args:
        authority: Who issued them.
        serials: Of certificates in its index; revoking one again changes nothing but the list's date.
        reason: One of `REASONS`.
        days: Until when the list should be replaced by a newer one; an older one still counts.

    Raises:
        PkiError: The authority has not issued one of them, or there is no such reason.
    """
    if reason not in REASONS:
        raise PkiError(f"reason {reason!r}; choose one of {', '.join(REASONS)}")
    index = authority.index()
    unknown = set(serials) - {one.serial for one in index.certificates}
    if unknown or not serials:
        named = ", ".join(f"{serial:x}" for serial in sorted(unknown)) or "none"
        raise PkiError(f"serial numbers {named} are not in the authority's index; see 'mple pki list'")
    issuer, key = authority.issuer()
    index.revoke(serials, reason)
    path = authority.directory / REVOKED_LIST
    write_whole(path, index.signed_list(issuer, key, days))
    return path


def install_list(directory: Path, crl_pem: bytes) -> RevokedList:
    """Put a list of revoked certificates into a node's TLS folder; a running node takes it up within a second.

    Raises:
        PkiError: It is not of the node's authority, is damaged, or older than the one that is there.
    """
    ca_pem = _read(directory / CA_CERTIFICATE, "authority certificate")
    path = directory / REVOKED_LIST
    try:
        fresh = read_revoked(crl_pem, ca_pem)
        held = read_revoked(path.read_bytes(), ca_pem) if path.exists() else RevokedList()
    except TlsError as fault:
        raise PkiError(str(fault)) from None
    if fresh.number < held.number:
        raise PkiError(f"list {fresh.number} is older than list {held.number} in {path}; fetch the newest one")
    write_whole(path, crl_pem)
    return fresh


def renew(directory: Path, *, new_key: bool = False) -> bytes:
    """Make a signing request for a node that has a certificate: the same identity and hosts; returns it as PEM.

    The key stays the same, so that envelopes which were sealed to it can still be opened, or is replaced by a new one
    that waits as `node.key.new` for `install`.

    Raises:
        PkiError: The folder holds no certificate and key to renew.
    """
    held = _read(directory / NODE_CERTIFICATE, "certificate")
    try:
        certificate = x509.load_pem_x509_certificate(held)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = load_pem_private_key(_read(directory / NODE_KEY, "key"), password=None)
    except UNSOUND as fault:
        raise PkiError(f"{directory / NODE_CERTIFICATE} can't be renewed: {fault}; request a new one") from None
    waiting = directory / f"{NODE_KEY}.new"
    waiting.unlink(missing_ok=True)
    if new_key:
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(waiting, key)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{directory / NODE_KEY} is no EC key; renew with --new-key")
    signing_request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(certificate.subject)
        .add_extension(names, critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    (directory / NODE_REQUEST).write_bytes(signing_request)
    return signing_request


def install(directory: Path, certificate_pem: bytes, ca_pem: bytes) -> Party:
    """Put a certificate and its authority beside the node's key, after checking that they belong together.

    A key that `renew` has left waiting takes the place of the old one with its certificate. A running node goes on with
    the old pair until both files are in place. If the machine fails between the two, installing again completes it.

    Raises:
        PkiError: They don't belong together; nothing is changed then.
    """
    waiting = directory / f"{NODE_KEY}.new"
    if not (directory / NODE_KEY).exists() and not waiting.exists():
        raise PkiError(f"no key in {directory}; start with 'mple pki request'")
    fresh = {NODE_CERTIFICATE: certificate_pem, CA_CERTIFICATE: ca_pem}
    for name, content in fresh.items():
        (directory / f"{name}.new").write_bytes(content)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
        new_key = waiting.exists() and _is_key_of(waiting, certificate)
        files = TlsFiles(
            directory / f"{CA_CERTIFICATE}.new",
            directory / f"{NODE_CERTIFICATE}.new",
            waiting if new_key else directory / NODE_KEY,
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
    if new_key:
        os.replace(waiting, directory / NODE_KEY)
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


def _is_key_of(path: Path, certificate: x509.Certificate) -> bool:
    key = load_pem_private_key(path.read_bytes(), password=None)
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*spki) == certificate.public_key().public_bytes(*spki)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PkiError(f"no {what} at {path}; make an authority with 'mple pki init'") from None
