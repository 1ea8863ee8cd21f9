"""What is known of a vault's secrets without knowing them: `keys.json`, fingerprints, names of files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

NOISE_KEY = "noise.key"
"""The name of the file of the noise's secret."""
CACHE_KEY = "cache.key"
"""The name of the file of the secret of a compute node's cache."""


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
class KeyFile:
    """The content of `keys.json`."""

    keys: tuple[KeyRecord, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the other secrets by the names of their files, see `secret_fingerprint`."""


def consortium_key(run_id: str) -> str:
    """The name of the file of a run's consortium secret."""
    return f"consortium-{run_id}.key"


def secret_fingerprint(name: str, secret: bytes) -> str:
    """What a secret is known by, hexadecimal: SHA-256 of a domain, its name and its bytes. It may be written down
    anywhere: of a secret of 32 random bytes it tells nothing that could be guessed from."""
    return hashlib.sha256(b"mple/v1/secret\0" + name.encode() + b"\0" + secret).hexdigest()
