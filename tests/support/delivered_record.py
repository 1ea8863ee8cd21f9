"""`model.json` of a network that nobody has checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from mple.data.picture_reading import PictureReading
from mple.delivered.about import NetworkAbout
from mple.delivered.check import Check, Verdict
from mple.delivered.folder import DeliveredRecord
from mple.plan import DeliveredDtype

_NONE: Mapping[str, bytes] = MappingProxyType({})


def record_of(
    about: NetworkAbout, files: Mapping[str, bytes] = _NONE, reading: PictureReading | None = None
) -> DeliveredRecord:
    """Of site north, with the digests of these files."""
    return DeliveredRecord(
        about=about,
        site="north",
        check=Check(verdict=Verdict.UNCHECKED, reason="a test"),
        reading=reading or PictureReading(),
        dtype=DeliveredDtype.F32,
        network_sha256="cd" * 32,
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        delivered_at=datetime(2026, 11, 30, tzinfo=UTC),
    )
