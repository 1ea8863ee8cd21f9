"""Certificates that say who a node is, sealed envelopes between them, and each site's vault."""

from mple.pki.authority import Authority, PkiError, approve, create_authority, describe_request, enter, request, revoke
from mple.pki.backup import back_up, restore
from mple.pki.issued import REASONS
from mple.pki.node_folder import install, install_list, renew, throwaway
from mple.pki.seal import SealError, open_sealed, seal, verify_certificate
from mple.pki.secret_records import NOISE_KEY, KeyRecord, consortium_key, secret_fingerprint
from mple.pki.vault import PASSPHRASE_VARIABLE, Vault
from mple.pki.vault_cipher import VaultDamagedError, VaultError, read_passphrase

__all__ = [
    "NOISE_KEY",
    "PASSPHRASE_VARIABLE",
    "REASONS",
    "Authority",
    "KeyRecord",
    "PkiError",
    "SealError",
    "Vault",
    "VaultDamagedError",
    "VaultError",
    "approve",
    "back_up",
    "consortium_key",
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
    "secret_fingerprint",
    "throwaway",
    "verify_certificate",
]
