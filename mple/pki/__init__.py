"""Certificates that say who a node is, sealed envelopes between them, and each site's vault."""

from mple.pki.authority import Authority, PkiError, approve, create_authority, describe_request, enter, request, revoke
from mple.pki.backup import back_up, restore
from mple.pki.issued import REASONS
from mple.pki.node_folder import install, install_list, renew, throwaway
from mple.pki.seal import SealError, open_sealed, seal, verify_certificate
from mple.pki.vault import PASSPHRASE_VARIABLE, KeyRecord, Vault
from mple.pki.vault_cipher import VaultError, read_passphrase

__all__ = [
    "PASSPHRASE_VARIABLE",
    "REASONS",
    "Authority",
    "KeyRecord",
    "PkiError",
    "SealError",
    "Vault",
    "VaultError",
    "approve",
    "back_up",
    "create_authority",
    "describe_request",
    "enter",
    "install",
    "install_list",
    "open_sealed",
    "read_passphrase",
    "renew",
    "request",
    "restore",
    "revoke",
    "seal",
    "throwaway",
    "verify_certificate",
]
