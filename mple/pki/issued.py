"""What an authority has issued and revoked: its index, and the signed list of revoked certificates.

`issued.json` in the authority's folder has a record for each certificate. The list, `ca.crl`, is an X.509 CRL
(RFC 5280, section 5): nodes check its signature, so it may travel by any way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
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
    flag.name.replace("_", " "): flag
    for flag in (
        x509.ReasonFlags.unspecified,
        x509.ReasonFlags.key_compromise,
        x509.ReasonFlags.affiliation_changed,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.privilege_withdrawn,
    )
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
class _IndexFile:
    list_number: int
    certificates: tuple[IssuedCertificate, ...]


class IssuedIndex:
    """The index in an authority's folder; an authority of before there was one has none, and it begins empty."""

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            ValueError: It is damaged.
        """
        self._path = folder / _INDEX
        self.certificates: tuple[IssuedCertificate, ...] = ()
        self.list_number = 0
        self._read()

    def add(self, certificate: IssuedCertificate) -> None:
        """Enter a certificate; one that is there stays as it is."""
        with locked(self._path.parent):
            self._read()
            if all(one.serial != certificate.serial for one in self.certificates):
                self._write((*self.certificates, certificate), self.list_number)

    def revoke(self, serials: Sequence[int], reason: str) -> int:
        """Mark certificates as revoked and return the number of the list that says so."""
        now = datetime.now(UTC).replace(microsecond=0)
        with locked(self._path.parent):
            self._read()
            marked = tuple(
                dataclasses.replace(one, revoked_at=now, reason=reason)
                if one.serial in serials and one.revoked_at is None
                else one
                for one in self.certificates
            )
            self._write(marked, self.list_number + 1)
        return self.list_number

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

    def _read(self) -> None:
        if self._path.exists():
            try:
                found = read_record(_IndexFile, self._path)
            except ValueError as fault:
                raise ValueError(f"{fault}; restore the file from a backup") from None
            self.list_number, self.certificates = found.list_number, found.certificates

    def _write(self, certificates: tuple[IssuedCertificate, ...], list_number: int) -> None:
        write_record(self._path, _IndexFile(list_number=list_number, certificates=certificates))
        self.certificates, self.list_number = certificates, list_number
