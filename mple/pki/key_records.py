"""What is known of a site's morph keys without opening one: `keys.json` of the vault. It holds no secret.

Its fingerprints outlive their keys, so that a revoked key can still be named.
"""

from __future__ import annotations

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


def read_key_records(path: Path) -> dict[int, KeyRecord]:
    """All records in their order, by epoch.

    Raises:
        VaultError: The file is open to others or damaged.
    """
    if not path.exists():
        return {}
    refuse_open(path)
    try:
        records = read_record(_KeyFile, path).keys
    except ValueError as fault:
        raise VaultError(f"{fault}; move the file away, the keys themselves stay") from None
    return {record.epoch: record for record in sorted(records, key=lambda record: record.epoch)}


def keep_key_record(path: Path, record: KeyRecord) -> None:
    """Add a record, or put it in the place of the one of its epoch; the file is written at once, whole."""
    records = {**read_key_records(path), record.epoch: record}
    write_record(path, _KeyFile(keys=tuple(records.values())), mode=0o600)


def now_text() -> str:
    """The time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
