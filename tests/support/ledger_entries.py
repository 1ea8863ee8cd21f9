"""Ledger rows made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mple.meter import Direction, Ledger, LedgerEntry, MessageFacts, MessageKind

SENT, RECEIVED = Direction.SENT, Direction.RECEIVED
_EVENT = MessageFacts(MessageKind.EVENT)


def entry(
    direction: Direction,
    call: str,
    index: int = 0,
    size: int = 100,
    facts: MessageFacts = _EVENT,
    *,
    peer: str = "coordinator/coordinator",
    time_unix_ns: int = 1,
) -> LedgerEntry:
    """One message at one end."""
    return LedgerEntry(
        time_unix_ns=time_unix_ns,
        direction=direction,
        peer=peer,
        method="Feed",
        call_id=call,
        index=index,
        facts=facts,
        serialized_bytes=size,
    )


def book(folder: Path, node: str, entries: Iterable[LedgerEntry]) -> Path:
    """A closed ledger of a node with these entries."""
    path = folder / f"{node.replace('/', '-')}.sqlite"
    with Ledger(path, node) as ledger:
        for one in entries:
            ledger.record(one)
    return path
