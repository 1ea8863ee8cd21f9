"""Secrets under a passphrase: AES-256-GCM with a key that scrypt (RFC 7914) makes of the passphrase and a salt.

Used by the vault, whose folder has one salt, and by backups, which have one each. What is sealed is bound to a name:
under another name it does not open, so that files can't be exchanged for each other.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mple.disk.damage import DamagedError
from mple.disk.json_records import read_json

_N, _R, _P = 2**15, 8, 1
"""32 MiB and about a tenth of a second for each guess of a passphrase."""
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32
_FORMAT = 1
_MOST_PASSPHRASE = 65_536
_PROOF_NAME = "passphrase"
_PROOF = b"mple vault"


class VaultError(ValueError):
    """The vault is open to others, closed to this passphrase, or a file in it is damaged."""


class VaultDamagedError(DamagedError, VaultError):
    """A secret of the vault is gone, or another than the one that was used; the node stops, and no run ends by it."""

    def __init__(self, path: Path | str, what: str) -> None:
        """As `DamagedError`; the way out is the same for all."""
        super().__init__(path, what, "put it back as it was, or from a backup (mple keys restore), and start again")


class PassphraseCipher:
    """Seals and opens under one passphrase and salt."""

    def __init__(self, passphrase: str, salt: bytes | None = None) -> None:
        """Derive the key in a tenth of a second, by default under a new salt; VaultError for an empty passphrase."""
        if not passphrase:
            raise VaultError("an empty passphrase protects nothing; give another, or none for file permission alone")
        self._salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
        key = Scrypt(salt=self._salt, length=_KEY_BYTES, n=_N, r=_R, p=_P).derive(passphrase.encode())
        self._aead = AESGCM(key)

    @classmethod
    def from_header(cls, header: bytes, passphrase: str, where: str) -> PassphraseCipher:
        """Under the salt of a `header`; VaultError when it is damaged, of another version or another passphrase."""
        try:
            about = read_json(header, where)
            if about["format"] != _FORMAT:
                raise VaultError(f"{where} has format {about['format']}; this program reads {_FORMAT}; upgrade it")
            known = {name: about[name] for name in ("kdf", "n", "r", "p")}
            salt, proof = bytes.fromhex(about["salt"]), bytes.fromhex(about["proof"])
        except VaultError:
            raise
        except (KeyError, TypeError, ValueError) as fault:
            raise VaultDamagedError(where, f"is damaged ({fault!r})") from None
        if known != {"kdf": "scrypt", "n": _N, "r": _R, "p": _P} or len(salt) != _SALT_BYTES:
            raise VaultError(f"{where} asks for {known} with a salt of {len(salt)} bytes; this program makes others")
        cipher = cls(passphrase, salt)
        try:
            cipher.open(_PROOF_NAME, proof, where)
        except VaultError:
            raise VaultError(f"the passphrase is not the one that {where} was made with") from None
        return cipher

    def header(self) -> bytes:
        """What must be kept to open again: salt, parameters and a proof of the passphrase; no secret."""
        about = {"format": _FORMAT, "kdf": "scrypt", "n": _N, "r": _R, "p": _P, "salt": self._salt.hex()}
        return json.dumps({**about, "proof": self.seal(_PROOF_NAME, _PROOF).hex()}, sort_keys=True).encode() + b"\n"

    def seal(self, name: str, secret: bytes) -> bytes:
        """Nonce, ciphertext and tag of a secret under a name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, _bound(name))

    def open(self, name: str, sealed: bytes, where: str) -> bytes:
        """The secret again; VaultDamagedError when it was altered, or sealed under another name or passphrase."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(name))
        except (InvalidTag, ValueError):
            raise VaultDamagedError(where, "does not open: altered, exchanged, or of another vault") from None


def read_passphrase(variable: str, file: Path | None = None) -> str | None:
    """A passphrase from an environment variable or, when that is not set, from the first line of a file.

    Raises VaultError: the file is missing, empty, no text, or open to others.
    """
    told = os.environ.get(variable)
    if told is not None or file is None:
        return told
    try:
        refuse_open(file)
        with file.open(encoding="utf-8") as lines:
            text = lines.readline(_MOST_PASSPHRASE)
    except (OSError, UnicodeDecodeError) as fault:
        raise VaultError(f"the passphrase can't be read from {file}: {fault}; or set {variable}") from None
    first = text.partition("\n")[0].rstrip("\r")
    if not first:
        raise VaultError(f"{file} holds no passphrase; write it in the first line, or set {variable}")
    return first


def refuse_open(path: Path) -> None:
    """VaultError for what others can read. It is not repaired: what was readable may have been read."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise VaultError(f"{path} has mode {mode:04o} and is open to others; consider its keys known, or chmod go= it")


def _bound(name: str) -> bytes:
    return b"mple/v1/vault\0" + name.encode()
