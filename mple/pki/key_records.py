"""What is known of a site's morph keys without opening one: `keys.json` of the vault. It holds no secret.

Its fingerprints outlive their keys, so that a revoked key can still be named.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mple.disk.json_records import read_record, write_record
from mple.pki.vault_cipher import VaultError, refuse_open


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One epoch of a site's morph key."""

    epoch: int
    fingerprint: str
    """Hexadecimal, 64 digits."""
    made: str
    """Time in UTC, ISO 8601; of keys that are older than their record, the time at which they were first noted."""
    revoked: str | None = None
    """Time in UTC, None while the key may be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _KeyFile:
    keys: tuple[KeyRecord, ...]


class KeyRecords:
    """The file of records; each change is written at once, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[KeyRecord, ...]:
        """All records, by epoch.

        Raises:
            VaultError: The file is open to others or damaged.
        """
        if not self._path.exists():
            return ()
        refuse_open(self._path)
        try:
            records = read_record(_KeyFile, self._path).keys
        except ValueError as fault:
            raise VaultError(f"{fault}; move the file away, the keys themselves stay") from None
        return tuple(sorted(records, key=lambda record: record.epoch))

    def note(self, epoch: int, fingerprint: str, made: str | None = None) -> None:
        """Record a key that is not recorded yet."""
        records = self.read()
        if all(record.epoch != epoch for record in records):
            self._write((*records, KeyRecord(epoch, fingerprint, made or _now())))

    def note_revoked(self, epoch: int) -> None:
        """Record that a recorded key is revoked, unless it was before."""
        self._write(
            tuple(
                dataclasses.replace(record, revoked=record.revoked or _now()) if record.epoch == epoch else record
                for record in self.read()
            )
        )

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        write_record(self._path, _KeyFile(keys=records), mode=0o600)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
