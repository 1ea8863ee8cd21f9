"""A node's vault: a site's morph keys by epoch, the secret of its noise and the consortium secrets of its runs; the
secret of a compute node's sample cache. Each is a file.

The folder has mode 0700, its files 0600. A file that others can read is refused, not repaired: what was readable may
have been read. Under a passphrase every secret is encrypted as well, and `vault.json` holds the salt. `keys.json` says
which epochs there are and were; it holds no secret. Its fingerprints outlive their keys, so that a revoked key can
still be named, and that a secret which is lost, altered or of an older day is refused by name: none is drawn again. A
fingerprint is a hash of 32 random bytes and does not help to guess them.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mple.disk.bounded import read_bounded
from mple.disk.damage import DamagedError
from mple.disk.json_records import read_record, write_record
from mple.disk.locks import locked
from mple.disk.private import make_private
from mple.disk.scarcity import patiently
from mple.disk.stamps import Stamp, stamp_of
from mple.disk.whole_files import fsync_folder, overwrite, write_whole
from mple.morph import MorphKey
from mple.pki.secret_records import CACHE_KEY, NOISE_KEY, KeyFile, KeyRecord, consortium_key, secret_fingerprint
from mple.pki.vault_cipher import PassphraseCipher, VaultDamagedError, VaultError, read_passphrase, refuse_open

PASSPHRASE_VARIABLE = "MPLE_VAULT_PASSPHRASE"  # noqa: S105
_SECRET_BYTES = 32
_MORPH_KEY = re.compile(r"morph(?:-([2-9]|[1-9][0-9]+))?\.key")
_OTHER_SECRETS = re.compile(r"(?:noise|cache)\.key|consortium-[^\W_]+\.key")
_HEADER = "vault.json"
_SEALED = ".sealed"


class Vault:
    """The secrets of one node.

    Guarantees: a key is drawn once and never replaced; what is read is what was drawn, by its fingerprint; what
    `forget` returned from can't be read again; a process that dies at any moment leaves a vault that opens. Not
    promised: that a disk, or a copy of it, keeps no old block.
    """

    def __init__(self, directory: Path, passphrase: str | None = None) -> None:
        """Open the vault, making its folder at first use; a passphrase that is given for the first time encrypts it.

        Raises VaultError: the folder or `vault.json` is readable by others, the passphrase is wrong, or one is needed.
        """
        self._directory, self._record_path = directory, directory / "keys.json"
        make_private(directory)
        refuse_open(directory)
        self._cipher = self._opened(passphrase)
        if self._half_forgotten():
            with locked(directory):
                for epoch in self._half_forgotten():
                    overwrite(self._key_path(epoch))

    @classmethod
    def of(cls, directory: Path, passphrase_file: Path | None) -> Vault:
        """The vault in a folder, its passphrase as `read_passphrase` has it; VaultError as both."""
        return cls(directory, read_passphrase(PASSPHRASE_VARIABLE, passphrase_file))

    @property
    def encrypted(self) -> bool:
        """Whether the secrets are under a passphrase."""
        return self._cipher is not None

    def stamp(self) -> Stamp:
        """Changes when a secret is drawn, revoked or replaced, here or by another process; cheap."""
        return stamp_of(self._directory, self._record_path)

    def has_morph_key(self, epoch: int | None = None) -> bool:
        """Whether the key of an epoch is here, by default whether any has been drawn."""
        return bool(self._held()) if epoch is None else epoch in self._held()

    def current_epoch(self) -> int:
        """The newest key's epoch; 1 before the first is drawn. Raises VaultDamagedError: that key is gone."""
        epoch = max(self._held().union(self._records()), default=1)
        if epoch not in self._held() and epoch in self._records():
            raise VaultDamagedError(self._key_path(epoch), "is gone, the site's newest morph key")
        return epoch

    def morph_key(self, epoch: int | None = None) -> MorphKey:
        """A key, by default the current one, drawn from the operating system's entropy at first use.

        Raises VaultError: it never was here or was revoked, or its file is readable by others; VaultDamagedError: it is
        gone, or another.
        """
        if epoch is None:
            epoch = self.current_epoch()
            if not self._held():
                self._draw(1)
        if not self.has_morph_key(epoch):
            record = self._records().get(epoch)
            if record and not record.revoked:
                raise VaultDamagedError(self._key_path(epoch), "is gone, a morph key that was used")
            what = f"was revoked at {record.revoked}" if record else "is not here"
            raise VaultError(f"the morph key of epoch {epoch} {what} ({self._directory})")
        return MorphKey(self._read(self._key_path(epoch)))

    def new_epoch(self) -> int:
        """Draw the next key and return its epoch, the earlier ones stay; VaultError when there is none to follow on."""
        if not self._held():
            raise VaultError(f"{self._directory} holds no morph key to follow on; make the first: mple keys new")
        epoch = max(self._held().union(self._records())) + 1
        self._draw(epoch)
        return epoch

    def forget(self, epoch: int) -> None:
        """Revoke a key: its file is overwritten and removed, that it was is kept in `keys.json`.

        Raises VaultError: it is the current one, never was, or can't be read.
        """
        with locked(self._directory):
            held = self._held()
            if epoch == max(held, default=0):
                raise VaultError(f"epoch {epoch} is the current key; make the next one first: mple keys rotate")
            if epoch in held:
                self._note(epoch)
                self._keep_record(replace(self._records()[epoch], revoked=_now()))
                overwrite(self._key_path(epoch))
            elif epoch not in self._records():
                known = ", ".join(map(str, sorted(held))) or "none"
                raise VaultError(f"there never was a key of epoch {epoch} in {self._directory}; it holds {known}")

    def epochs(self) -> tuple[KeyRecord, ...]:
        """Every key that is or was here, by epoch; no secret. VaultError as `morph_key`."""
        if self._held().difference(self._records()):
            with locked(self._directory):
                for epoch in self._held():
                    self._note(epoch)
        return tuple(self._records().values())

    def has_consortium_secret(self, run_id: str) -> bool:
        """Whether the run's secret is here."""
        return self._consortium_path(run_id).exists()

    def consortium_secret(self, run_id: str) -> bytes:
        """What a run's channel and label order come from.

        Raises VaultError: it never was here, or is open to others; VaultDamagedError: it is gone, or another.
        """
        path = self._consortium_path(run_id)
        if not path.exists():
            self.refuse_lost(path.name)
            raise VaultError(f"no consortium secret of run {run_id} in {self._directory}; has the run been set up?")
        secret = self._read(path)
        if path.name not in self._key_file().secrets:
            with locked(self._directory):
                self._note_secret(path.name, secret)
        return secret

    def keep_consortium_secret(self, run_id: str, secret: bytes) -> None:
        """Store a run's secret, or the same again.

        Raises VaultError: another is stored, or it has the wrong length; VaultDamagedError: another was stored before.
        """
        self._keep(self._consortium_path(run_id), secret, f"consortium secret of run {run_id}")

    def withdraw_consortium_secret(self, run_id: str) -> None:
        """Forget a secret that was just drawn and that nothing rests on: the run turned out to have another."""
        path = self._consortium_path(run_id)
        with locked(self._directory):
            overwrite(path)
            kept = self._key_file()
            self._keep_file(
                replace(kept, secrets={name: one for name, one in kept.secrets.items() if name != path.name})
            )

    def noise_secret(self, *, new: bool = True) -> bytes:
        """The secret that the noise of the site's pictures is drawn from, made at first use; it is never rotated.
        Another secret would draw other noise on the same pictures, and two noisy forms tell more than one.

        `new` tells whether it may be made: whether no picture can have left under another one.

        Raises VaultError, VaultDamagedError: as `consortium_secret`.
        """
        return self._drawn_once(NOISE_KEY, "" if new else "is gone, and pictures have left under its noise")

    def cache_secret(self, *, new: bool = True) -> bytes:
        """The secret that a compute node's cache of samples is encrypted under, made at first use; `new` as above.

        Raises VaultError, VaultDamagedError: as `consortium_secret`.
        """
        return self._drawn_once(CACHE_KEY, "" if new else "is gone, and samples are encrypted under it")

    def refuse_lost(self, name: str) -> None:
        """Raise VaultDamagedError when a secret was here under this name and is gone."""
        if name in self._key_file().secrets and not (self._directory / name).exists():
            raise VaultDamagedError(self._directory / name, "is gone, a secret that was used")

    def require_known(self, name: str, secret: bytes) -> None:
        """Raise VaultDamagedError for another secret than the one that was used under this name, if one was."""
        epoch = _epoch_of(name)
        if epoch is None:
            known, found = self._key_file().secrets.get(name), secret_fingerprint(name, secret)
        else:
            record = self._records().get(epoch)
            known, found = record.fingerprint if record else None, MorphKey(secret).fingerprint().hex()
        if known is not None and known != found:
            text = f"is another secret ({found[:16]}) than the one that was used ({known[:16]})"
            raise VaultDamagedError(self._directory / name, text)

    def contents(self, *, sound: bool = False) -> dict[str, bytes]:
        """Every secret by its file's name, for a backup: never log it. With `sound` those that are damaged are left
        out, else they raise. VaultError, VaultDamagedError as `consortium_secret`."""
        found = {}
        for path in sorted(self._directory.glob("*.key")):
            with suppress(*((VaultDamagedError,) if sound else ())):
                found[path.name] = self._read(path)
        return found

    def take_in(self, name: str, secret: bytes, records: Mapping[int, KeyRecord]) -> bool:
        """Store a secret of a backup by its name in `contents`, also in the place of a damaged one; False when its key
        has been revoked here.

        The backup's records, by epoch, tell when a key was made.

        Raises VaultError: another secret is already here under this name, or the name is none of a vault;
        VaultDamagedError: another was here under this name, by its fingerprint.
        """
        epoch = _epoch_of(name)
        if epoch is None and not _OTHER_SECRETS.fullmatch(name):
            raise VaultError(f"{name[:80]!r} is no secret of a vault")
        if epoch in self._revoked():
            return False
        self._keep(self._directory / name, secret, name)
        if epoch is not None:
            with locked(self._directory):
                self._note(epoch, records[epoch].made if epoch in records else None)
        return True

    def _key_file(self) -> KeyFile:
        if not self._record_path.exists():
            return KeyFile()
        refuse_open(self._record_path)
        try:
            return read_record(KeyFile, self._record_path)
        except DamagedError:
            raise VaultDamagedError(self._record_path, "is damaged: its checksum is another") from None
        except ValueError as fault:
            raise VaultError(f"{fault}; move the file away, the keys themselves stay") from None

    def _keep_file(self, kept: KeyFile) -> None:
        write_record(self._record_path, kept)

    def _records(self) -> dict[int, KeyRecord]:
        return {record.epoch: record for record in sorted(self._key_file().keys, key=lambda record: record.epoch)}

    def _keep_record(self, record: KeyRecord) -> None:
        """Add a record, or put it in the place of the one of its epoch; the folder is locked."""
        records = {**self._records(), record.epoch: record}
        self._keep_file(replace(self._key_file(), keys=tuple(records.values())))

    def _note_secret(self, name: str, secret: bytes) -> None:
        """Have the fingerprint of a secret in the records, before anything rests on it; the folder is locked."""
        kept = self._key_file()
        if name not in kept.secrets:
            self._keep_file(replace(kept, secrets={**kept.secrets, name: secret_fingerprint(name, secret)}))

    def _drawn_once(self, name: str, needed: str) -> bytes:
        """A secret, drawn where it never was; `needed` says why it may not be drawn, empty where it may."""
        path = self._directory / name
        with locked(self._directory):
            if not path.exists():
                self.refuse_lost(name)
                if needed:
                    raise VaultDamagedError(path, needed)
                self._write(path, secrets.token_bytes(_SECRET_BYTES))
            secret = self._read(path)
            self._note_secret(name, secret)
        return secret

    def _revoked(self) -> set[int]:
        return {epoch for epoch, record in self._records().items() if record.revoked is not None}

    def _half_forgotten(self) -> set[int]:
        """Of what a process died that had the record, and not the key's end, on the disk."""
        return self._held() & self._revoked()

    def _note(self, epoch: int, made: str | None = None) -> None:
        """Have a key that is here in the records; the folder is locked."""
        if epoch not in self._records():
            fingerprint = MorphKey(self._read(self._key_path(epoch))).fingerprint().hex()
            self._keep_record(KeyRecord(epoch, fingerprint, made or _now()))

    def _draw(self, epoch: int) -> None:
        with locked(self._directory):
            if epoch not in self._held():
                self._write(self._key_path(epoch), MorphKey.generate().seed)
                self._note(epoch)

    def _keep(self, path: Path, secret: bytes, what: str) -> None:
        if len(secret) != _SECRET_BYTES:
            raise VaultError(f"a {what} has {_SECRET_BYTES} bytes, this one {len(secret)}")
        held = self.contents(sound=True).get(path.name)
        if held is not None and not secrets.compare_digest(held, secret):
            raise VaultError(f"another {what} is already in {path}")
        self.require_known(path.name, secret)
        if held is None:
            self._write(path, secret)
        if _epoch_of(path.name) is None:
            with locked(self._directory):
                self._note_secret(path.name, secret)

    def _held(self) -> set[int]:
        # Not by `glob`, which may pass an error over in silence: a vault that can't be read is not empty.
        found = {_epoch_of(name) for name in patiently(lambda: os.listdir(self._directory))}
        return {epoch for epoch in found if epoch is not None}

    def _key_path(self, epoch: int) -> Path:
        return self._directory / ("morph.key" if epoch == 1 else f"morph-{epoch}.key")

    def _consortium_path(self, run_id: str) -> Path:
        if not run_id.isalnum():
            raise VaultError(f"run id {run_id!r} is not made of letters and digits")
        return self._directory / consortium_key(run_id)

    def _opened(self, passphrase: str | None) -> PassphraseCipher | None:
        header = self._directory / _HEADER
        if not header.exists():
            if passphrase is None:
                return None
            cipher = PassphraseCipher(passphrase)
            self._seal_all(cipher)
        else:
            refuse_open(header)
            if passphrase is None:
                raise VaultError(
                    f"the vault {self._directory} is encrypted; set {PASSPHRASE_VARIABLE}, or vault_passphrase_file in "
                    "the site's configuration"
                )
            cipher = PassphraseCipher.from_header(read_bounded(header), passphrase, str(header))
        self._finish_encrypting()
        return cipher

    def _seal_all(self, cipher: PassphraseCipher) -> None:
        """Sealed copies first, then the header that makes them count; `_finish_encrypting` gives them their places."""
        with locked(self._directory):
            for left in self._directory.glob(f"*{_SEALED}"):
                left.unlink()  # of an attempt whose header never came
            for path in self._directory.glob("*.key"):
                sealed = cipher.seal(path.name, _plain(path))
                write_whole(path.with_name(path.name + _SEALED), sealed)
            write_whole(self._directory / _HEADER, cipher.header())

    def _finish_encrypting(self) -> None:
        with locked(self._directory):
            for sealed in self._directory.glob(f"*{_SEALED}"):
                plain = sealed.with_name(sealed.name.removesuffix(_SEALED))
                with suppress(FileNotFoundError):
                    overwrite(plain)
                os.replace(sealed, plain)
            fsync_folder(self._directory)

    def _write(self, path: Path, secret: bytes) -> None:
        write_whole(path, secret if self._cipher is None else self._cipher.seal(path.name, secret))

    def _read(self, path: Path) -> bytes:
        if self._cipher is None:
            secret = _plain(path)
        else:
            refuse_open(path)
            secret = self._cipher.open(path.name, patiently(lambda: read_bounded(path)), str(path))
        self.require_known(path.name, secret)
        return secret


def _plain(path: Path) -> bytes:
    refuse_open(path)
    secret = patiently(lambda: read_bounded(path))
    if len(secret) != _SECRET_BYTES:
        raise VaultDamagedError(path, f"holds {len(secret)} bytes instead of {_SECRET_BYTES}")
    return secret


def _epoch_of(name: str) -> int | None:
    """The epoch that a key file's name says, None for the name of another file."""
    found = _MORPH_KEY.fullmatch(name)
    return int(found[1] or 1) if found else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
