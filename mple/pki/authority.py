"""The consortium's certificate authority: a request is made, approved, and what was issued is revoked.

Keys are EC P-256. A node's private key is made on its own machine and never leaves it: what travels is a signing
request there and a certificate back, which `mple.pki.node_folder` puts in place and renews. A certificate carries host
names and addresses for TLS and, as a URI, the identity that the protocol goes by (RFC 5280, section 4.2.1.6).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mple.disk.bounded import read_bounded
from mple.disk.private import make_private
from mple.disk.whole_files import write_whole
from mple.pki.issued import REASONS, IssuedCertificate, IssuedIndex, enter_certificates, mark_revoked, read_index
from mple.printable import is_host_name, printable
from mple.rpc import Party, Role
from mple.rpc.identity import SERVER_NAMES
from mple.rpc.revoked import REVOKED_LIST
from mple.rpc.tls import party_of_certificate
from mple.rpc.tls_files import UNSOUND

_BACKDATED = timedelta(minutes=5)
_MOST_HOSTS = 32
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
        return read_file(self.directory / CA_CERTIFICATE, "authority certificate")

    @property
    def consortium(self) -> str:
        """The name that all its certificates share."""
        certificate = x509.load_pem_x509_certificate(self.certificate_pem)
        return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)

    def index(self) -> IssuedIndex:
        """What it has issued, see `read_index`."""
        return read_index(self.directory)

    def issuer(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Its certificate and its private key; PkiError when one is missing or no EC key."""
        key = load_pem_private_key(read_file(self.directory / CA_KEY, "authority key"), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{self.directory / CA_KEY} is no EC key")
        return x509.load_pem_x509_certificate(self.certificate_pem), key


@dataclass(frozen=True, slots=True)
class Request:
    """What a signing request asks for."""

    party: Party
    hosts: tuple[str, ...]
    key: ec.EllipticCurvePublicKey
    """The one that the certificate will be for."""


def create_authority(directory: Path, consortium: str, days: int = 3650) -> Authority:
    """Make an authority, a self-signed root that may sign nodes only (path length 0); PkiError if there is one."""
    Party(consortium, Role.COORDINATOR, "check")
    if (directory / CA_KEY).exists() or (directory / CA_CERTIFICATE).exists():
        raise PkiError(f"{directory} already holds an authority; choose another folder")
    make_private(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(consortium, f"{consortium} mple authority")
    certificate = (
        _begun(name, name, key.public_key(), datetime.now(UTC) + timedelta(days=days), authority=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    write_key(directory / CA_KEY, key)
    write_whole(directory / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    return Authority(directory)


def request(directory: Path, party: Party, hosts: Sequence[str]) -> bytes:
    """Make a node's key in `directory` and return the signing request (PEM); the key stays there. `hosts` are names and
    addresses under which others reach the node. PkiError as `names_of`, or when the folder already holds a key."""
    if (directory / NODE_KEY).exists():
        raise PkiError(f"{directory / NODE_KEY} already exists; a node's key is made once")
    names = names_of(party, hosts)
    make_private(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    signing_request = signed_request(key, _name(party.consortium, party.label), names)
    write_key(directory / NODE_KEY, key)
    write_whole(directory / NODE_REQUEST, signing_request)
    return signing_request


def describe_request(request_pem: bytes) -> Request:
    """Who asks, and for which hosts, to look at before `approve`; PkiError when it is no sound request of ours, or a
    host is none: a person reads the names and decides by them."""
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
    hosts = _hosts(names)
    names_of(party, hosts)
    return Request(party, hosts, key)


def approve(authority: Authority, request_pem: bytes, days: int = 90) -> bytes:
    """Sign a request and return the certificate, PEM; PkiError when it is unsound or for another consortium.

    Guarantees: TLS takes a server's certificate for the party and role that are in it and for no other, and a site's
    for no server's at all.
    """
    asked = describe_request(request_pem)
    if asked.party.consortium != authority.consortium:
        raise PkiError(
            f"the request is for consortium {asked.party.consortium!r}, this authority is of {authority.consortium!r}"
        )
    (certificate,) = issue(authority, [asked], days)
    return certificate


def issue(authority: Authority, wanted: Sequence[Request], days: int) -> list[bytes]:
    """Certificates, PEM, for what was checked before, entered in the index as one; the guarantees are `approve`'s."""
    issuer, key = authority.issuer()
    signed = [_signed(asked, issuer, key, days) for asked in wanted]
    enter_certificates(authority.directory, [_record(certificate) for certificate in signed])  # before anybody has one
    return [certificate.public_bytes(Encoding.PEM) for certificate in signed]


def _signed(asked: Request, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, days: int) -> x509.Certificate:
    ends = min(datetime.now(UTC) + timedelta(days=days), issuer.not_valid_after_utc)
    usages, names = [ExtendedKeyUsageOID.CLIENT_AUTH], names_of(asked.party, asked.hosts)
    if asked.party.role.serves:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names = x509.SubjectAlternativeName([*names, x509.DNSName(asked.party.server_name)])
    return (
        _begun(_name(asked.party.consortium, asked.party.label), issuer.subject, asked.key, ends, authority=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def enter(authority: Authority, certificate_pem: bytes) -> int:
    """Enter a certificate of before there was an index and return its serial number; PkiError when it is not ours."""
    issuer, _ = authority.issuer()
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(issuer)
        record = _record(certificate)
    except UNSOUND as fault:
        raise PkiError(f"this is no certificate of the authority: {str(fault) or 'it did not sign it'}") from None
    enter_certificates(authority.directory, [record])
    return record.serial


def revoke(authority: Authority, serials: Sequence[int], reason: str = "unspecified", days: int = 30) -> Path:
    """Revoke certificates and sign the list that says so, `ca.crl` in the authority's folder; returns its path.

    Args:
        authority: Who issued them.
        serials: Of certificates in its index; revoking one again changes nothing but the list's date.
        reason: One of `REASONS`.
        days: Until when the list should be replaced by a newer one; an older one still counts.

    Raises PkiError: the authority has not issued one of them, or there is no such reason.
    """
    if reason not in REASONS:
        raise PkiError(f"reason {reason!r}; choose one of {', '.join(REASONS)}")
    unknown = set(serials) - {one.serial for one in authority.index().certificates}
    if unknown or not serials:
        named = ", ".join(f"{serial:x}" for serial in sorted(unknown)) or "none"
        raise PkiError(
            f"serial numbers {named} are not in the authority's index; see 'mple pki list', and enter a certificate "
            "of before there was an index with --certificate"
        )
    issuer, key = authority.issuer()
    path = authority.directory / REVOKED_LIST
    write_whole(path, mark_revoked(authority.directory, serials, reason).signed_list(issuer, key, days))
    return path


def signed_request(key: ec.EllipticCurvePrivateKey, subject: x509.Name, names: x509.SubjectAlternativeName) -> bytes:
    """A signing request for a key, PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def names_of(party: Party, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """A party's identity and hosts as a request bears them; PkiError when a host is malformed or of the domain that the
    authority keeps for identities, or there is none and others dial the party."""
    if party.role.serves and not hosts:
        raise PkiError(
            f"no host for {party.label}, which listens: others could not check where they are; "
            "make the request with --host NAME, each name or address by which they reach it"
        )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(party.uri)]
    for host in checked_hosts(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if f".{host.lower()}".endswith(f".{SERVER_NAMES}"):
                raise PkiError(
                    f"host {host!r}: names in {SERVER_NAMES} say who a server is and are the authority's to give; "
                    "name the host that others dial"
                ) from None
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that a certificate is made out for, without the name by which TLS knows its bearer."""
    identity = party_of_certificate(certificate).server_name
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(host for host in _hosts(names) if host != identity)


def checked_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Hosts, each once. Raises PkiError: one is neither a host name nor an address, or there are more than 32."""
    each_once = tuple(dict.fromkeys(hosts))
    for host in each_once:
        if not is_host_name(host) and not _is_address(host):
            raise PkiError(
                f"host {printable(repr(host), 80)} is neither a name nor an address; a name has letters, digits, inner "
                "hyphens and dots: no wildcard, no underscore, no port"
            )
    if len(each_once) > _MOST_HOSTS:
        raise PkiError(f"{len(each_once)} hosts; a node has at most {_MOST_HOSTS}")
    return each_once


def _is_address(host: str) -> bool:
    try:
        return "%" not in host and bool(ipaddress.ip_address(host).packed)
    except ValueError:
        return False


def _hosts(names: x509.SubjectAlternativeName) -> tuple[str, ...]:
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _record(certificate: x509.Certificate) -> IssuedCertificate:
    return IssuedCertificate(
        serial=certificate.serial_number,
        identity=party_of_certificate(certificate).uri,
        hosts=hosts_of(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _name(consortium: str, common_name: str) -> x509.Name:
    """Of a certificate's bearer; for people, the protocol does not read it."""
    return x509.Name.from_rfc4514_string(f"CN={common_name},O={consortium}")


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime, *, authority: bool
) -> x509.CertificateBuilder:
    """What the certificates of an authority and of a node have alike; an authority may sign nodes only."""
    usage = x509.KeyUsage(
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
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
    )


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a new key that only its owner can read; FileExistsError when there is one."""
    write_whole(path, key_pem(key), new=True)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as its file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_file(path: Path, what: str, way_out: str = "make an authority with 'mple pki init'") -> bytes:
    """The bytes of a file; PkiError when there is none, with what to do."""
    try:
        return read_bounded(path)
    except FileNotFoundError:
        raise PkiError(f"no {what} at {path}; {way_out}") from None
