"""What an authority has issued and revoked: its index, and the signed list of revoked certificates.

`issued.json` in the authority's folder has a record for each certificate. The list, `ca.crl`, is an X.509 CRL
(RFC 5280, section 5): nodes check its signature, so it may travel by any way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mple.disk.json_records import read_record, write_record
from mple.disk.locks import locked

_INDEX = "issued.json"
REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key compromise": x509.ReasonFlags.key_compromise,
    "affiliation changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation of operation": x509.ReasonFlags.cessation_of_operation,
    "privilege withdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""Why a certificate may be revoked, in the words of RFC 5280."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedCertificate:
    """One certificate of an authority."""

    serial: int
    identity: str
    """mple://consortium/role/name."""
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    reason: str = ""

    def state(self, now: datetime) -> str:
        """In words: "valid, 89 days left", "expired", "revoked on 2026-11-24 (superseded)"."""
        if self.revoked_at is not None:
            return f"revoked on {self.revoked_at:%Y-%m-%d} ({self.reason})"
        if now > self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d}"
        return f"valid, {(self.not_after - now).days} days left"


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedIndex:
    """All certificates of an authority, and how many lists of revoked ones it has signed."""

    list_number: int
    certificates: tuple[IssuedCertificate, ...]

    def signed_list(self, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey, days: int) -> bytes:
        """The list of all that is revoked, PEM, to be replaced within `days`."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - timedelta(minutes=5))
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(self.list_number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        for one in self.certificates:
            if one.revoked_at is not None:
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(one.serial)
                    .revocation_date(one.revoked_at)
                    .add_extension(x509.CRLReason(REASONS[one.reason]), critical=False)
                    .build()
                )
        return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def read_index(folder: Path) -> IssuedIndex:
    """The index in an authority's folder, empty for an authority of before there was one; ValueError if damaged."""
    path = folder / _INDEX
    if not path.exists():
        return IssuedIndex(list_number=0, certificates=())
    try:
        return read_record(IssuedIndex, path)
    except ValueError as fault:
        raise ValueError(f"{fault}; restore the file from a backup") from None


def enter_certificates(folder: Path, certificates: Sequence[IssuedCertificate]) -> None:
    """Enter certificates in the index; those that are there stay as they are."""
    with locked(folder):
        index = read_index(folder)
        known = {one.serial for one in index.certificates}
        fresh = [one for one in certificates if one.serial not in known]
        if fresh:
            write_record(folder / _INDEX, replace(index, certificates=(*index.certificates, *fresh)))


def mark_revoked(folder: Path, serials: Sequence[int], reason: str) -> IssuedIndex:
    """Mark certificates as revoked, and return the index with the number of the list that is to say so."""
    now = datetime.now(UTC).replace(microsecond=0)
    with locked(folder):
        index = read_index(folder)
        marked = tuple(
            replace(one, revoked_at=now, reason=reason) if one.serial in serials and one.revoked_at is None else one
            for one in index.certificates
        )
        index = IssuedIndex(list_number=index.list_number + 1, certificates=marked)
        write_record(folder / _INDEX, index)
    return index
