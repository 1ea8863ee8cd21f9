"""Where a node's certificates lie, and what can be wrong with certificates, keys and lists of revoked ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a node's certificates lie."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> TlsFiles:
        """`ca.crt`, `node.crt` and `node.key` of a folder."""
        return cls(directory / "ca.crt", directory / "node.crt", directory / "node.key")


UNSOUND = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises on bytes that are no sound certificate, request or list."""


class TlsError(ValueError):
    """Certificates or keys can't be used; the text says which and what to do."""


class AwayError(ConnectionError):
    """The party does not answer; trying again later may help."""
