"""A vault in one encrypted file, under a passphrase of its own.

Layout: a line that names the format, a line with the header of `mple.pki.vault_cipher`, then one sealed JSON object
with the secrets and the key records. A backup keeps what it was made of: after a revocation make a new one and destroy
the old.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mple.disk.bounded import UnsoundFileError, read_bounded
from mple.disk.json_records import record_from_json, record_to_json
from mple.disk.whole_files import write_whole
from mple.pki.secret_records import KeyRecord
from mple.pki.vault import Vault
from mple.pki.vault_cipher import PassphraseCipher, VaultError

_MAGIC = b"mple vault backup 1\n"
_NAME = "backup"
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """What `restore` did, by file name."""

    taken: tuple[str, ...]
    revoked: tuple[str, ...]
    """Left out: the vault knows these keys as revoked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Content:
    secrets: Mapping[str, str]
    """In hexadecimal, by the names of their files."""
    keys: tuple[KeyRecord, ...]


def back_up(vault: Vault, path: Path, passphrase: str) -> int:
    """Write a backup of mode 0600 and return how many secrets it holds.

    Raises VaultError: the vault is empty or can't be read, or the file exists.
    """
    if path.exists():
        raise VaultError(f"{path} exists; name a new file, backups are not overwritten")
    secrets_by_name = vault.contents()
    if not secrets_by_name:
        raise VaultError("the vault holds no secret to back up")
    content = _Content(secrets={name: secret.hex() for name, secret in secrets_by_name.items()}, keys=vault.epochs())
    cipher = PassphraseCipher(passphrase)
    write_whole(path, _MAGIC + cipher.header() + cipher.seal(_NAME, record_to_json(content).encode()))
    return len(secrets_by_name)


def restore(vault: Vault, path: Path, passphrase: str) -> Restored:
    """Put a backup's secrets into a vault; those that are there already stay, damaged ones are replaced, and revoked
    keys stay revoked.

    Raises VaultError: the file is no backup, damaged or of another passphrase, or the vault holds other secrets under
    the same names; nothing is written then. VaultDamagedError: a secret of the backup is another than the one that was
    used under its name.
    """
    found, records = _read(path, passphrase)
    held = vault.contents(sound=True)
    others = sorted(name for name, secret in found.items() if held.get(name, secret) != secret)
    if others:
        raise VaultError(
            f"the vault holds other secrets than the backup: {', '.join(others)}; restore into an empty folder"
        )
    for name, secret in found.items():
        vault.require_known(name, secret)
    left_out = tuple(name for name, secret in found.items() if not vault.take_in(name, secret, records))
    return Restored(tuple(name for name in found if name not in left_out), left_out)


def _read(path: Path, passphrase: str) -> tuple[dict[str, bytes], dict[int, KeyRecord]]:
    try:
        content = read_bounded(path, _MOST_BYTES, named=True)
    except UnsoundFileError as fault:
        raise VaultError(f"{fault}; it is no backup of a vault") from None
    if not content.startswith(_MAGIC):
        raise VaultError(f"{path} is no backup of a vault")
    header, _, sealed = content[len(_MAGIC) :].partition(b"\n")
    opened = PassphraseCipher.from_header(header, passphrase, str(path)).open(_NAME, sealed, str(path))
    try:
        found = record_from_json(_Content, opened, str(path))
        secrets = {name: bytes.fromhex(secret) for name, secret in found.secrets.items()}
    except ValueError as fault:
        raise VaultError(str(fault)) from None
    return secrets, {record.epoch: record for record in found.keys}
