"""What can be wrong with certificates, keys and lists of revoked ones."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

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
