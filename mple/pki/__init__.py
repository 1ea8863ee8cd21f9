"""Certificates that say who a node is, sealed envelopes between them, and each site's vault."""

from mple.pki.authority import (
    Authority,
    PkiError,
    approve,
    create_authority,
    describe_request,
    install,
    request,
    throwaway,
)
from mple.pki.seal import SealError, open_sealed, seal, verify_certificate
from mple.pki.vault import Vault, VaultError

__all__ = [
    "Authority",
    "PkiError",
    "SealError",
    "Vault",
    "VaultError",
    "approve",
    "create_authority",
    "describe_request",
    "install",
    "open_sealed",
    "request",
    "seal",
    "throwaway",
    "verify_certificate",
]
