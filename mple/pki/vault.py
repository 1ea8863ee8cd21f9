"""A site's vault: the morph key and the consortium secrets of its runs, each a file of 32 bytes.

The folder has mode 0700, its files 0600. A file that others can read is refused, not repaired: what was readable may
have been read.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from mple.morph import MorphKey

_SECRET_BYTES = 32


class VaultError(ValueError):
    """The vault is open to others, or a file in it is damaged."""


class Vault:
    """The secrets of one site."""

    def __init__(self, directory: Path) -> None:
        """Open the vault, making its folder at first use.

        Raises:
            VaultError: The folder is readable by others.
        """
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_open(directory)

    def has_morph_key(self) -> bool:
        """Whether the site's key has been drawn."""
        return self._key_path.exists()

    def morph_key(self) -> MorphKey:
        """The site's key, drawn from the operating system's entropy at first use.

        Raises:
            VaultError: The file is readable by others or does not hold 32 bytes.
        """
        if not self.has_morph_key():
            _write_secret(self._key_path, secrets.token_bytes(_SECRET_BYTES))
        return MorphKey(_read_secret(self._key_path))

    def has_consortium_secret(self, run_id: str) -> bool:
        """Whether the run's secret is here."""
        return self._consortium_path(run_id).exists()

    def consortium_secret(self, run_id: str) -> bytes:
        """The secret behind a run's channel order and label order.

        Raises:
            VaultError: It is not here, is readable by others, or damaged.
        """
        path = self._consortium_path(run_id)
        if not path.exists():
            raise VaultError(f"no consortium secret of run {run_id} in {self._directory}; has the run been set up?")
        return _read_secret(path)

    def keep_consortium_secret(self, run_id: str, secret: bytes) -> None:
        """Store a run's secret; storing the same again is allowed.

        Raises:
            VaultError: Another secret is already stored for the run, or this one has the wrong length.
        """
        if len(secret) != _SECRET_BYTES:
            raise VaultError(f"a consortium secret has {_SECRET_BYTES} bytes, this one {len(secret)}")
        path = self._consortium_path(run_id)
        if path.exists():
            if not secrets.compare_digest(_read_secret(path), secret):
                raise VaultError(f"another consortium secret of run {run_id} is already in {path}")
            return
        _write_secret(path, secret)

    @property
    def _key_path(self) -> Path:
        return self._directory / "morph.key"

    def _consortium_path(self, run_id: str) -> Path:
        if not run_id.isalnum():
            raise VaultError(f"run id {run_id!r} is not made of letters and digits")
        return self._directory / f"consortium-{run_id}.key"


def _write_secret(path: Path, secret: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _read_secret(path: Path) -> bytes:
    _refuse_open(path)
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise VaultError(f"{path} holds {len(secret)} bytes instead of {_SECRET_BYTES}; restore it from a backup")
    return secret


def _refuse_open(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise VaultError(f"{path} has mode {mode:04o} and is open to others; consider its keys known, or chmod go= it")
