"""What crossed between the two parties, read off the client's ledger."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from comparison.two_party.contents import Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficRow:
    """All messages of one phase, layer, kind and direction."""

    phase: Phase
    part: str
    """The layer, or empty."""
    kind: str
    up: bool
    """From client to server."""
    messages: int
    payload_bytes: int
    framed_bytes: int
    """With the frames' fields and gRPC's prefixes; TLS and TCP come on top."""


def read_traffic(ledger: Path) -> tuple[TrafficRow, ...]:
    """All rows of a client's ledger, in the order in which the first of their messages crossed."""
    with closing(sqlite3.connect(ledger)) as ledgers:
        rows = ledgers.execute(
            "SELECT phase, kind, direction, COUNT(*), SUM(payload_bytes), SUM(framed_bytes) FROM messages "
            "WHERE method = 'Exchange' GROUP BY phase, kind, direction ORDER BY MIN(time_unix_ns)"
        ).fetchall()
    return tuple(
        TrafficRow(
            phase=Phase(phase.partition("/")[0]),
            part=phase.partition("/")[2],
            kind=kind,
            up=direction == "sent",
            messages=messages,
            payload_bytes=payload,
            framed_bytes=framed,
        )
        for phase, kind, direction, messages, payload, framed in rows
    )


def framed(rows: Iterable[TrafficRow], *, phase: Phase | None = None, up: bool | None = None) -> int:
    """Framed bytes of the rows of a phase and a direction, by default of all."""
    return sum(
        row.framed_bytes for row in rows if (phase is None or row.phase is phase) and (up is None or row.up is up)
    )
