"""The calls of the sites, by method: how many, how large, how long. From the sites' own ledgers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRow:
    """All calls of one method by all sites."""

    method: str
    role: str
    """Of the party that was called: `coordinator` or `compute`."""
    calls: int
    sent_messages: int
    sent_bytes: int
    """With gRPC's prefixes."""
    received_messages: int
    received_bytes: int
    largest_bytes: int
    """The largest message of either direction."""
    longest_s: float
    """The longest time between the first and the last message of a call."""


def methods(merged: Path) -> list[MethodRow]:
    """The most expensive method first."""
    with closing(sqlite3.connect(merged)) as ledgers:
        rows = ledgers.execute(
            "SELECT method, peer, COUNT(*), SUM(sent), SUM(sent_bytes), SUM(received), SUM(received_bytes), "
            "MAX(largest), MAX(ns) FROM (SELECT method, SUBSTR(peer, 1, INSTR(peer, '/') - 1) AS peer, "
            "SUM(direction = 'sent') AS sent, SUM(framed_bytes * (direction = 'sent')) AS sent_bytes, "
            "SUM(direction = 'received') AS received, SUM(framed_bytes * (direction = 'received')) AS received_bytes, "
            "MAX(framed_bytes) AS largest, MAX(time_unix_ns) - MIN(time_unix_ns) AS ns FROM messages "
            "WHERE node LIKE 'site/%' GROUP BY node, call_id) GROUP BY method, peer ORDER BY SUM(sent_bytes) + "
            "SUM(received_bytes) DESC"
        ).fetchall()
    return [
        MethodRow(
            method=method,
            role=role,
            calls=calls,
            sent_messages=sent,
            sent_bytes=sent_bytes,
            received_messages=received,
            received_bytes=received_bytes,
            largest_bytes=largest,
            longest_s=ns / 1e9,
        )
        for method, role, calls, sent, sent_bytes, received, received_bytes, largest, ns in rows
    ]
