"""A site's vault: its morph keys by epoch, the secret of its noise and the consortium secrets of its runs, each a file.

The folder has mode 0700, its files 0600. A file that others can read is refused, not repaired: what was readable may
have been read. Under a passphrase every secret is encrypted as well, and `vault.json` holds the salt. `keys.json` says
which epochs there are and were; it holds no secret.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from mple.disk.locks import locked
from mple.disk.whole_files import fsync_folder, overwrite, write_private
from mple.morph import MorphKey
from mple.pki.key_records import KeyRecord, KeyRecords
from mple.pki.vault_cipher import PassphraseCipher, VaultError, read_passphrase, refuse_open

PASSPHRASE_VARIABLE = "MPLE_VAULT_PASSPHRASE"  # noqa: S105
_SECRET_BYTES = 32
_NOISE = "noise.key"
_HEADER = "vault.json"
_SEALED = ".sealed"


class Vault:
    """The secrets of one site.

    Guarantees: a key is drawn once and never replaced; what `forget` returned from can't be read again; a process that
    dies at any moment leaves a vault that opens. Not promised: that a disk, or a copy of it, keeps no old block.
    """

    def __init__(self, directory: Path, passphrase: str | None = None) -> None:
        """Open the vault, making its folder at first use.

        A passphrase given for the first time encrypts what is there.

        Args:
            directory: The vault's folder.
            passphrase: None for a vault that is protected by file permission alone.

        Raises:
            VaultError: The folder or `vault.json` is readable by others, the passphrase is wrong, or one is needed.
        """
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_open(directory)
        self._records = KeyRecords(directory / "keys.json")
        self._cipher = self._opened(passphrase)
        if any(self._key_path(record.epoch).exists() for record in self._revoked()):
            with locked(directory):
                for record in self._revoked():
                    if self._key_path(record.epoch).exists():
                        overwrite(self._key_path(record.epoch))

    @classmethod
    def of(cls, directory: Path, passphrase_file: Path | None) -> Vault:
        """The vault in a folder, its passphrase from the environment, or else from a file, or else there is none.

        Raises:
            VaultError: As the vault itself, and when the file can't be read or is open to others.
        """
        return cls(directory, read_passphrase(PASSPHRASE_VARIABLE, passphrase_file))

    @property
    def encrypted(self) -> bool:
        """Whether the secrets are under a passphrase."""
        return self._cipher is not None

    def has_morph_key(self, epoch: int | None = None) -> bool:
        """Whether the key of an epoch is here, by default whether any has been drawn."""
        return bool(self._held()) if epoch is None else epoch in self._held()

    def current_epoch(self) -> int:
        """The newest key's epoch; 1 before the first is drawn."""
        return max(self._held(), default=1)

    def morph_key(self, epoch: int | None = None) -> MorphKey:
        """A key, by default the current one, drawn from the operating system's entropy at first use.

        Raises:
            VaultError: It is not here or was revoked, its file is readable by others, or damaged.
        """
        if epoch is None:
            if not self._held():
                self._draw_first()
            epoch = self.current_epoch()
        if epoch not in self._held():
            record = next((one for one in self.epochs() if one.epoch == epoch), None)
            what = f"was revoked at {record.revoked}" if record and record.revoked else "is not here"
            raise VaultError(f"the morph key of epoch {epoch} {what} ({self._directory})")
        return MorphKey(self._read(self._key_path(epoch)))

    def new_epoch(self) -> int:
        """Draw the next key and return its epoch; earlier keys stay until they are forgotten.

        Raises:
            VaultError: No key has been drawn yet.
        """
        if not self._held():
            raise VaultError(f"{self._directory} holds no morph key to follow on; make the first: mple keys new")
        epoch = max([self.current_epoch(), *(record.epoch for record in self._records.read())]) + 1
        self._draw(epoch)
        return epoch

    def forget(self, epoch: int) -> None:
        """Revoke a key: its file is overwritten and removed, that it was is kept in `keys.json`.

        Raises:
            VaultError: It is the current one, never was, or can't be read.
        """
        with locked(self._directory):
            held = self._held()
            if epoch == max(held, default=0):
                raise VaultError(f"epoch {epoch} is the current key; make the next one first: mple keys rotate")
            if epoch in held:
                self._records.note(epoch, self.morph_key(epoch).fingerprint().hex())
                self._records.note_revoked(epoch)
                overwrite(self._key_path(epoch))
            elif not any(record.epoch == epoch for record in self._records.read()):
                known = ", ".join(map(str, sorted(held))) or "none"
                raise VaultError(f"there never was a key of epoch {epoch} in {self._directory}; it holds {known}")

    def epochs(self) -> tuple[KeyRecord, ...]:
        """Every key that is or was here, by epoch; no secret.

        Raises:
            VaultError: As `morph_key`.
        """
        if self._unrecorded():
            with locked(self._directory):
                for epoch in self._unrecorded():
                    self._records.note(epoch, MorphKey(self._read(self._key_path(epoch))).fingerprint().hex())
        return self._records.read()

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
        return self._read(path)

    def keep_consortium_secret(self, run_id: str, secret: bytes) -> None:
        """Store a run's secret; storing the same again is allowed.

        Raises:
            VaultError: Another secret is already stored for the run, or this one has the wrong length.
        """
        self._keep(self._consortium_path(run_id), secret, f"consortium secret of run {run_id}")

    def noise_secret(self) -> bytes:
        """The secret that the noise of the site's pictures is drawn from, made at first use; it is never rotated.

        Another secret would draw other noise on the same pictures, and two noisy forms tell more than one.

        Raises:
            VaultError: Its file is readable by others, or damaged.
        """
        path = self._directory / _NOISE
        with locked(self._directory):
            if not path.exists():
                self._write(path, secrets.token_bytes(_SECRET_BYTES))
        return self._read(path)

    def contents(self) -> dict[str, bytes]:
        """Every secret by its file's name, for a backup; never log it.

        Raises:
            VaultError: A file is readable by others, or damaged.
        """
        return {path.name: self._read(path) for path in self._secret_files()}

    def take_in(self, name: str, secret: bytes, record: KeyRecord | None = None) -> bool:
        """Store a secret of a backup under its file's name; False when its key has been revoked here.

        Raises:
            VaultError: Another secret is already here under this name, or the name is none of a vault.
        """
        epoch = _epoch_of(name)
        if epoch is None and name != _NOISE and not (name.startswith("consortium-") and name.endswith(".key")):
            raise VaultError(f"{name[:80]!r} is no secret of a vault")
        if epoch is not None and any(one.epoch == epoch and one.revoked for one in self._records.read()):
            return False
        if name == _NOISE:
            path = self._directory / _NOISE
        else:
            path = self._key_path(epoch) if epoch is not None else self._consortium_path(name[len("consortium-") : -4])
        self._keep(path, secret, name)
        if record is not None:
            with locked(self._directory):
                self._records.note(record.epoch, record.fingerprint, record.made)
        return True

    def _revoked(self) -> list[KeyRecord]:
        return [record for record in self._records.read() if record.revoked is not None]

    def _unrecorded(self) -> set[int]:
        return self._held() - {record.epoch for record in self._records.read()}

    def _draw_first(self) -> None:
        lost = self._records.read()
        if lost:
            raise VaultError(
                f"the morph key of epoch {lost[-1].epoch} is gone from {self._directory}; restore it from a backup: "
                "mple keys restore"
            )
        self._draw(1)

    def _draw(self, epoch: int) -> None:
        with locked(self._directory):
            if epoch not in self._held():
                key = MorphKey.generate()
                self._write(self._key_path(epoch), key.seed)
                self._records.note(epoch, key.fingerprint().hex())

    def _keep(self, path: Path, secret: bytes, what: str) -> None:
        if len(secret) != _SECRET_BYTES:
            raise VaultError(f"a {what} has {_SECRET_BYTES} bytes, this one {len(secret)}")
        if path.exists():
            if not secrets.compare_digest(self._read(path), secret):
                raise VaultError(f"another {what} is already in {path}")
            return
        self._write(path, secret)

    def _held(self) -> set[int]:
        found = {_epoch_of(path.name) for path in self._directory.glob("morph*.key")}
        return {epoch for epoch in found if epoch is not None}

    def _secret_files(self) -> list[Path]:
        return sorted(self._directory.glob("*.key"))

    def _key_path(self, epoch: int) -> Path:
        return self._directory / ("morph.key" if epoch == 1 else f"morph-{epoch}.key")

    def _consortium_path(self, run_id: str) -> Path:
        if not run_id.isalnum():
            raise VaultError(f"run id {run_id!r} is not made of letters and digits")
        return self._directory / f"consortium-{run_id}.key"

    def _opened(self, passphrase: str | None) -> PassphraseCipher | None:
        header = self._directory / _HEADER
        if header.exists():
            refuse_open(header)
            if passphrase is None:
                raise VaultError(
                    f"the vault {self._directory} is encrypted; set {PASSPHRASE_VARIABLE}, or vault_passphrase_file in "
                    "the site's configuration"
                )
            cipher = PassphraseCipher.from_header(header.read_bytes(), passphrase, str(header))
            self._finish_encrypting()
            return cipher
        if passphrase is None:
            return None
        return self._encrypt(PassphraseCipher.new(passphrase))

    def _encrypt(self, cipher: PassphraseCipher) -> PassphraseCipher:
        """Sealed copies first, then the header that makes them count, then they take their places."""
        with locked(self._directory):
            for left in self._directory.glob(f"*{_SEALED}"):
                left.unlink()  # of an attempt whose header never came
            for path in self._secret_files():
                sealed = cipher.seal(path.name, _plain(path))
                write_private(path.with_name(path.name + _SEALED), sealed)
            write_private(self._directory / _HEADER, cipher.header())
        self._finish_encrypting()
        return cipher

    def _finish_encrypting(self) -> None:
        with locked(self._directory):
            for sealed in self._directory.glob(f"*{_SEALED}"):
                plain = sealed.with_name(sealed.name.removesuffix(_SEALED))
                with suppress(FileNotFoundError):
                    overwrite(plain)
                os.replace(sealed, plain)
            fsync_folder(self._directory)

    def _write(self, path: Path, secret: bytes) -> None:
        write_private(path, secret if self._cipher is None else self._cipher.seal(path.name, secret))

    def _read(self, path: Path) -> bytes:
        if self._cipher is None:
            return _plain(path)
        refuse_open(path)
        return self._cipher.open(path.name, path.read_bytes(), str(path))


def _plain(path: Path) -> bytes:
    refuse_open(path)
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise VaultError(f"{path} holds {len(secret)} bytes instead of {_SECRET_BYTES}; restore it from a backup")
    return secret


def _epoch_of(name: str) -> int | None:
    """The epoch that a key file's name says, None for the name of another file."""
    if name == "morph.key":
        return 1
    number = name.removeprefix("morph-").removesuffix(".key")
    is_epoch = number.isascii() and number.isdigit() and not number.startswith("0") and name == f"morph-{number}.key"
    return int(number) if is_epoch and int(number) > 1 else None
