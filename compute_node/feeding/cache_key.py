"""The secret that a compute node's cache is encrypted under, out of its vault."""

from pathlib import Path

from mple.audit import audit
from mple.disk.damage import DamagedError
from mple.pki.vault import Vault
from mple.pki.vault_cipher import VaultDamagedError
from mple.plan import ComputeSettings
from mple.records.cache_cipher import HEAD_BYTES


def cache_secret(settings: ComputeSettings, cache: Path) -> bytes:
    """A rank's secret, drawn at its first use; never again while a cache rests on it.

    Raises VaultError: the vault is open to others, or its passphrase is another; DamagedError: the secret is gone, or
    another than the one that was used.
    """
    folder = settings.vault_folder
    vault = Vault.of(folder, settings.vault_passphrase_file)
    try:
        secret = vault.cache_secret(new=not _holds_records(cache))
    except VaultDamagedError as fault:
        text = str(fault).removeprefix(f"{folder}/")
        fix = f"put it back as it was; or remove {folder} and {cache}: samples are then asked anew, under a new key"
        raise DamagedError(folder, text, fix) from None
    audit("local", "cache_key", "ok", encrypted=vault.encrypted)
    return secret


def _holds_records(cache: Path) -> bool:
    return cache.exists() and cache.stat().st_size > HEAD_BYTES
