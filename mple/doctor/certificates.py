"""What is wrong with a certificate, this node's own or a peer's: certificates and the time in, findings out."""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mple.doctor.findings import Finding, fault, ok, warn
from mple.pki.authority import hosts_of
from mple.rpc import Party, Role, TlsError
from mple.rpc.revoked import RevokedList
from mple.rpc.tls import bears_server_name, is_key_of, party_of_certificate
from mple.rpc.tls_files import UNSOUND

EXPIRES_SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate and how to speak of it."""

    certificate: x509.Certificate
    named: str
    """Such as "the certificate of 127.0.0.1:7400"."""
    there: str
    """Where the fix is to be done: "there" or "here"."""


def parsed(certificate: x509.Certificate) -> x509.Certificate:
    """A certificate that can be judged; one of `UNSOUND` when its extensions, which are parsed late, are malformed."""
    _ = certificate.extensions
    return certificate


def key_match(held: Held, key: Path) -> Finding:
    """Whether a private key is the certificate's; the file holds one."""
    if is_key_of(key, held.certificate):
        return ok("key", f"{key} is the key of its certificate")
    return fault(
        "key",
        f"key {key} does not match {held.named}: it belongs to another certificate",
        "install the certificate that was issued for this key, or make both anew: mple pki request, approve, install",
    )


def chain(held: Held, authority: x509.Certificate, ca_file: Path) -> Finding:
    """Whether the authority signed it."""
    mark = authority.fingerprint(SHA256()).hex()[:16]
    try:
        held.certificate.verify_directly_issued_by(authority)
    except UNSOUND:
        issuer = held.certificate.issuer
        by = f"of another authority ({_common_name(issuer)})"
        if issuer == held.certificate.subject:
            by = "signed by itself"
        elif issuer == authority.subject:
            by = "of another authority of the same name"
        return fault(
            "chain",
            f"{held.named} is {by}: not of the one in {ca_file}",
            f"compare ca.crt on both machines (here its SHA-256 begins {mark}), install the consortium's where it "
            "differs, and have the certificate issued by that authority",
        )
    return ok("chain", f"signed by the authority in {ca_file} (SHA-256 {mark}...)")


def dates(held: Held, now: datetime) -> Finding:
    """Whether it is in force, and for how long."""
    begins, ends = held.certificate.not_valid_before_utc, held.certificate.not_valid_after_utc
    left = ends - now
    if now < begins:
        return fault(
            "dates",
            f"{held.named} is not valid yet: it begins at {_time(begins)}, this machine's clock says {_time(now)}",
            "set the clock of whichever machine is wrong; if both are right, have the certificate issued again",
        )
    if left < timedelta(0):
        return fault(
            "dates",
            f"{held.named} has expired at {_time(ends)}; this machine's clock says {_time(now)}",
            f"renew it {held.there}: mple pki renew; or set this machine's clock if that is wrong",
        )
    days = f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"
    if left < EXPIRES_SOON:
        return warn("dates", f"{held.named} expires in {days}", f"renew it {held.there} before that: mple pki renew")
    return ok("dates", f"valid for another {days}, until {_time(ends)}")


def host(held: Held, dialled: str) -> Finding:
    """Whether it is made out for the name or address that was dialled."""
    try:
        names = held.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return fault(
            "host name",
            f"{held.named} has a common name only ({_common_name(held.certificate.subject)}) and no subject "
            "alternative name, which is what counts",
            f"issue it anew {held.there} with mple pki request --host {dialled} and approve",
        )
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    if _covers(hosts, addresses, dialled):
        return ok("host name", f"made out for {dialled}")
    return fault(
        "host name",
        f"{held.named} is not made out for {dialled}, but for {', '.join([*hosts, *addresses]) or 'no host'}",
        f"dial it by one of these names, or have it issued again {held.there} with --host {dialled}",
    )


def usage(held: Held, *, serving: bool) -> Finding | None:
    """A fault when it is not for the end of a connection that it is used at; None when it is, or says nothing."""
    end, name, wanted = "dialling", "clientAuth", ExtendedKeyUsageOID.CLIENT_AUTH
    if serving:
        end, name, wanted = "serving", "serverAuth", ExtendedKeyUsageOID.SERVER_AUTH
    try:
        allowed = held.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if wanted in allowed or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in allowed:
        return None
    return fault(
        "usage",
        f"{held.named} is not for {end}: its extended key usage lacks {name}",
        f"have it issued {held.there} by mple pki approve: for both ends, or for a site's dialling",
    )


def serving_names(held: Held, party: Party) -> Finding | None:
    """A fault when the certificate of a party that others dial lacks a host, or the name by which TLS knows its role;
    None when it has both, or nobody dials the party."""
    if not party.role.serves:
        return None
    if not hosts_of(held.certificate):
        return fault(
            "host name",
            f"{held.named} is made out for no host, and {party.label} listens: nobody could dial it",
            f"make a new key and request {held.there} in an empty folder: mple pki request --host NAME",
        )
    if not bears_server_name(held.certificate, party):
        return fault(
            "identity",
            f"{held.named} lacks the name {party.server_name}, by which TLS knows its role at each connection",
            f"have it issued again {held.there}: mple pki renew, and approve",
        )
    return None


def identity(held: Held, roles: Collection[Role], consortium: str | None) -> tuple[Finding, Party | None]:
    """Who it says its bearer is, and whether that is one of the roles and of the consortium."""
    try:
        party = party_of_certificate(held.certificate)
    except TlsError as unsound:
        return fault(
            "identity",
            f"nobody can tell whose {held.named} is: {unsound}",
            f"have it issued {held.there} by mple pki request and approve, which put in one mple:// URI",
        ), None
    if consortium is not None and party.consortium != consortium:
        return fault(
            "identity",
            f"{held.named} is of consortium {party.consortium!r}, this node of {consortium!r}",
            "check the address, or have both certificates issued for the same consortium",
        ), party
    if party.role not in roles:
        needed = " or ".join(roles)
        never = "; a site never serves" if party.role is Role.SITE and Role.SITE not in roles else ""
        return fault(
            "identity",
            f"{held.named} is of {party.label}, where role {needed} is needed{never}",
            f"check the address in the configuration, and which TLS folder the node {held.there} uses",
        ), party
    return ok("identity", f"{party.label} of consortium {party.consortium}"), party


def revocation(held: Held, revoked: RevokedList) -> Finding:
    """Whether the authority has revoked it."""
    entry = revoked.entries.get(held.certificate.serial_number)
    if entry is not None:
        return fault(
            "revocation",
            f"{held.named} was {entry} by the authority",
            f"if its bearer is still of the consortium, make a new key and certificate {held.there}: mple pki request",
        )
    if revoked.number == 0:
        return ok("revocation", "no list of revoked certificates here (ca.crl): nobody counts as revoked")
    if revoked.overdue:
        return warn(
            "revocation",
            f"{held.named} is not revoked, but list {revoked.number} is overdue since {revoked.next_update:%Y-%m-%d}",
            "fetch the authority's newest list and install it: mple pki install-crl",
        )
    return ok("revocation", f"not in list {revoked.number} of revoked certificates")


def _covers(hosts: Collection[str], addresses: Collection[str], dialled: str) -> bool:
    try:
        return str(ipaddress.ip_address(dialled)) in addresses
    except ValueError:
        wanted = dialled.lower().rstrip(".")
        _, _, parent = wanted.partition(".")
        known = {name.lower() for name in hosts}
        return wanted in known or (parent != "" and f"*.{parent}" in known)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else "without a name"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
