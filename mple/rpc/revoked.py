"""The list of revoked certificates: how a node reads it, and how it stays fresh while the node runs.

It is an X.509 CRL (RFC 5280, section 5) that the authority signs; it lies as `ca.crl` beside `ca.crt`. gRPC for Python
knows no such lists, so whoever is called or calls looks the other's serial number up in it. No file: nobody is revoked.
"""

import functools
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mple.audit import audit
from mple.disk.scarcity import scarcity_of
from mple.disk.stamps import stamp_of
from mple.rpc.errors import ErrorCode
from mple.rpc.tls_files import UNSOUND, TlsError

REVOKED_LIST = "ca.crl"
_LOGGER = logging.getLogger("mple.rpc")


@dataclass(frozen=True, slots=True)
class Revocation:
    """When and why a certificate was revoked."""

    at: datetime
    reason: str
    """As in RFC 5280, in small letters: "superseded", "key compromise"."""

    def __str__(self) -> str:
        return f"revoked on {self.at:%Y-%m-%d} ({self.reason})"


@dataclass(frozen=True, kw_only=True, slots=True)
class RevokedList:
    """What a list says. Number 0 is no list."""

    number: int = 0
    """Grows with each list that the authority signs."""
    next_update: datetime | None = None
    """By when the authority means to have signed another."""
    entries: Mapping[int, Revocation] = field(default_factory=dict)
    """By serial number."""

    @property
    def overdue(self) -> bool:
        """Whether the next list should have come; this one still counts."""
        return self.next_update is not None and self.next_update < datetime.now(UTC)


def read_revoked(crl_pem: bytes, ca_pem: bytes) -> RevokedList:
    """Read a list after checking that this authority signed it.

    Raises TlsError: it did not, or the bytes are no list.
    """
    try:
        crl = x509.load_pem_x509_crl(crl_pem)
        authority = x509.load_pem_x509_certificate(ca_pem)
        key = authority.public_key()
        genuine = (
            isinstance(key, ec.EllipticCurvePublicKey)
            and crl.issuer == authority.subject
            and crl.is_signature_valid(key)
        )
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        entries = {entry.serial_number: Revocation(entry.revocation_date_utc, _reason(entry)) for entry in crl}
    except UNSOUND as fault:
        raise TlsError(f"this is no list of 'mple pki revoke': {fault}") from None
    if not genuine:
        raise TlsError("the list of revoked certificates was not signed by this authority, or was altered")
    return RevokedList(number=number, next_update=crl.next_update_utc, entries=entries)


class FreshList:
    """The list beside an authority's certificate, read again whenever its file changes; get it by `revoked_beside`.

    Guarantees: a list once read stays in force until a whole one of this authority with no smaller number replaces
    it. A damaged, foreign, older or missing file is logged, audited, and changes nothing.
    """

    def __init__(self, ca: Path) -> None:
        """Read the list. Raises TlsError: there is one, and it can't be used; OSError: this process has no descriptor
        left for it."""
        self._ca, self._file = ca, ca.with_name(REVOKED_LIST)
        self._lock = threading.Lock()
        self._stamp = stamp_of(self._file)
        self._list = self._read() if self._stamp != (None,) else RevokedList()

    def now(self) -> RevokedList:
        """The list in force."""
        stamp = stamp_of(self._file)
        with self._lock:
            if stamp != self._stamp and self._renew():
                self._stamp = stamp
            return self._list

    def _renew(self) -> bool:
        """Take in the file; False where it could not even be opened, for want of descriptors: look again."""
        try:
            fresh = self._read()
            if fresh.number < self._list.number:
                raise TlsError(f"list {fresh.number} in {self._file} is older than list {self._list.number}")
        except TlsError as fault:
            _LOGGER.error("%s; list %d of revoked certificates stays in force", fault, self._list.number)
            audit("local", "revoked_list", ErrorCode.INTERNAL, why=str(fault), kept=self._list.number)
            return True
        except OSError as fault:
            _LOGGER.warning("%s can't be read now: %s", self._file, fault)
            return False
        self._list = fresh
        _LOGGER.info("list %d of revoked certificates is in force: %d", fresh.number, len(fresh.entries))
        audit("local", "revoked_list", "ok", number=fresh.number, revoked=len(fresh.entries))
        return True

    def _read(self) -> RevokedList:
        try:
            return read_revoked(self._file.read_bytes(), self._ca.read_bytes())
        except OSError as fault:
            if scarcity_of(fault) is not None:
                raise
            raise TlsError(f"{self._file} can't be read: {fault.strerror}") from None
        except TlsError as fault:
            raise TlsError(f"{self._file}: {fault}; install it anew with 'mple pki install-crl'") from None


@functools.cache
def revoked_beside(ca: Path) -> FreshList:
    """The one list of this process beside an authority's certificate, so that all who ask keep the same in force.

    Raises TlsError: at the first call only: there is a list, and it can't be used.
    """
    return FreshList(ca)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return "unspecified"
    return reason.name.replace("_", " ")
