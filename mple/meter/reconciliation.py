"""Ledger reconciliation: all nodes' ledgers merged, matched message by message, and summed up as overhead."""

import csv
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from mple.disk.private import private_file
from mple.meter.facts import SAMPLE_KINDS, MessageKind
from mple.meter.ledger import GRPC_PREFIX_BYTES, INDEX, SCHEMA
from mple.meter.ledger_reading import opened_ledger
from mple.printable import spreadsheet_cell

_SHOWN = 5
_OF_PICTURES = (*SAMPLE_KINDS, MessageKind.PREDICT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How well the two ends' ledgers agree."""

    matched: int
    """Messages that one end sent and the other received with equal size."""
    lost: int
    """Sent last of their call, and not received: the call was cut with them on their way."""
    only_sent: int
    """Sent and not received, though a later message of the same call and direction was: one of the ledgers is wrong."""
    only_received: int
    """Received and not sent: one of the ledgers is wrong."""
    size_differs: int
    offenders: tuple[str, ...]
    """The first few that don't match, in words."""

    @property
    def balanced(self) -> bool:
        """Whether every message is matched at both ends, but for those that were cut off on their way."""
        return not (self.only_sent or self.only_received or self.size_differs)

    @property
    def whole(self) -> bool:
        """Whether every message is matched at both ends: so it must be where nothing was cut."""
        return self.balanced and not self.lost


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteImages:
    """What a site contributed."""

    name: str
    images: int
    raw_pixel_bytes: int
    """Channels x height x width of all its images, one byte a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteOverhead(SiteImages):
    """All bytes of one site's links, both directions, each counted once; framed bytes are their sum."""

    uplink_bytes: int
    downlink_bytes: int
    data_bytes: int
    """Codes of training, validation and test samples."""
    resent_bytes: int
    """The part of `data_bytes` in samples that had been sent before."""
    resent_samples: int
    """Samples that were sent once more, each time counted."""
    label_bytes: int
    layer_bytes: int
    logits_bytes: int
    network_bytes: int
    basis_bytes: int = 0
    """The trained trunk, as it was delivered."""
    setup_bytes: int
    """Whole messages of set-up: joining, stem, envelopes."""
    control_bytes: int
    """Requests, scores, events, reports, and the fields around all payload."""
    framing_bytes: int
    """gRPC's prefixes."""

    @property
    def total_bytes(self) -> int:
        """Framed bytes of both directions."""
        return self.uplink_bytes + self.downlink_bytes

    @property
    def ratio(self) -> float:
        """All bytes over raw pixel bytes."""
        return self.total_bytes / self.raw_pixel_bytes


@dataclass(frozen=True, slots=True)
class Overhead:
    """Of a run: its sites' links."""

    sites: tuple[SiteOverhead, ...]

    def sum(self, field: str) -> int:
        """A field summed over the sites."""
        return sum(int(getattr(site, field)) for site in self.sites)

    @property
    def ratio(self) -> float:
        """All bytes over raw pixel bytes, over all sites."""
        return self.sum("total_bytes") / max(1, self.sum("raw_pixel_bytes"))


@dataclass(frozen=True, slots=True)
class KindRow:
    """Sums over one kind of message in one direction, as the sites see it."""

    kind: str
    direction: str
    messages: int
    payload_bytes: int
    framed_bytes: int


def merge(ledgers: Sequence[Path], merged: Path) -> None:
    """Copy the rows of several nodes' ledgers into one new file.

    Raises FileExistsError: `merged` is already there; FileNotFoundError: one of the ledgers is not.
    """
    if merged.exists():
        raise FileExistsError(f"{merged} already exists; remove it to merge anew")
    for path in ledgers:
        if not path.is_file():  # SQLite would make an empty one
            raise FileNotFoundError(f"no ledger at {path}")
    with closing(sqlite3.connect(private_file(merged))) as database:
        database.execute(SCHEMA)
        database.execute("PRAGMA synchronous=OFF")  # of hundreds of ledgers; the last commit has all on the disk
        for number, path in enumerate(ledgers):
            database.execute(f"ATTACH DATABASE ? AS part{number}", (str(path),))
            database.execute(f"INSERT INTO messages SELECT * FROM part{number}.messages")  # noqa: S608
            database.commit()
            database.execute(f"DETACH DATABASE part{number}")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(INDEX)
        database.commit()


def balance(merged: Path) -> Balance:
    """Match each sent message with the received one of the same call, direction and place. A stream's messages arrive
    in their order, so what a cut stream has lost is its tail. Diagnoses are left out, for who makes them keeps no
    ledger; other messages with a node that has none here don't match and are named."""
    with opened_ledger(merged) as database:
        sides = (
            "SELECT {a}.node, {a}.peer, {a}.method, {a}.call_id, {a}.idx, {a}.serialized_bytes, {b}.serialized_bytes "
            "FROM messages {a} LEFT JOIN messages {b} ON {b}.call_id = {a}.call_id AND {b}.idx = {a}.idx "
            "AND {b}.direction = '{other}' AND {b}.node != {a}.node "
            "WHERE {a}.direction = '{own}' AND {a}.method != 'Probe'"
        )
        newest_of_call: dict[str, list[tuple[str, int]]] = {}
        for call, node, newest in database.execute(
            "SELECT call_id, node, MAX(idx) FROM messages WHERE direction = 'received' GROUP BY call_id, node"
        ):
            newest_of_call.setdefault(call, []).append((node, newest))
        matched = lost = only_sent = size_differs = 0
        offenders: list[str] = []
        nodes = {node for (node,) in database.execute("SELECT DISTINCT node FROM messages")}
        for node, peer, method, call, idx, own, other in database.execute(
            sides.format(a="s", b="r", own="sent", other="received")
        ):
            if own == other:
                matched += 1
                continue
            later = any(newest > idx for other, newest in newest_of_call.get(call, ()) if other != node)
            if other is None and peer in nodes and not later:
                lost += 1
                continue
            only_sent += other is None
            size_differs += other is not None
            if len(offenders) < _SHOWN:
                there = "nothing" if other is None else f"{other} B"
                offenders.append(f"{node} sent {method} {call}/{idx} of {own} B, the other end has {there}")
        only_received = 0
        for node, _, method, call, idx, own, other in database.execute(
            sides.format(a="r", b="s", own="received", other="sent")
        ):
            if other is None:
                only_received += 1
                if len(offenders) < _SHOWN:
                    offenders.append(f"{node} received {method} {call}/{idx} of {own} B that nobody sent")
    return Balance(
        matched=matched,
        lost=lost,
        only_sent=only_sent,
        only_received=only_received,
        size_differs=size_differs,
        offenders=tuple(offenders),
    )


def overhead(merged: Path, sites: Sequence[SiteImages]) -> Overhead:
    """Split each site's bytes, from its own ledger: every byte is in exactly one part."""
    sums: dict[str, list[tuple[str, str, int, int, int, int, int]]] = {}
    with opened_ledger(merged) as database:
        for node, *row in database.execute(
            "SELECT node, direction, kind, COUNT(*), SUM(payload_bytes), SUM(label_bytes), SUM(serialized_bytes), "
            "SUM(framed_bytes) FROM messages WHERE node LIKE 'site/%' GROUP BY node, direction, kind"
        ):
            sums.setdefault(node, []).append(tuple(row))
        # Samples of a batch are of one size each, so the division is exact.
        resent = {
            node: (samples, size)
            for node, samples, size in database.execute(
                "SELECT node, SUM(resent_samples), SUM(payload_bytes / samples * resent_samples) FROM messages "
                "WHERE node LIKE 'site/%' AND direction = 'sent' AND resent_samples > 0 GROUP BY node"
            )
        }
    return Overhead(
        tuple(
            _site_overhead(site, sums.get(f"site/{site.name}", []), resent.get(f"site/{site.name}", (0, 0)))
            for site in sites
        )
    )


def bytes_by_kind(merged: Path) -> list[KindRow]:
    """Sums by kind and direction over all sites' own ledgers, largest first."""
    with opened_ledger(merged) as database:
        rows = database.execute(
            "SELECT kind, direction, COUNT(*), SUM(payload_bytes + label_bytes), SUM(framed_bytes) FROM messages "
            "WHERE node LIKE 'site/%' GROUP BY kind, direction ORDER BY SUM(framed_bytes) DESC"
        ).fetchall()
    return [KindRow(*row) for row in rows]


def export_csv(merged: Path, out: Path) -> None:
    """All rows as CSV with a header, oldest first; no cell is a formula to a spreadsheet."""
    with opened_ledger(merged) as database, private_file(out).open("w", newline="", encoding="utf-8") as file:
        rows = database.execute("SELECT * FROM messages ORDER BY time_unix_ns")
        writer = csv.writer(file)
        writer.writerow([column[0] for column in rows.description])
        writer.writerows(map(spreadsheet_cell, row) for row in rows)


def _site_overhead(
    site: SiteImages, sums: Sequence[tuple[str, str, int, int, int, int, int]], resent: tuple[int, int]
) -> SiteOverhead:
    """Of a site's sums by direction and kind, and the samples and bytes that it sent once more."""
    up = down = data = labels = layer = basis = logits = network = setup = framed = count = 0
    for direction, kind, messages, payload, label, serialized, all_framed in sums:
        up += all_framed * (direction == "sent")
        down += all_framed * (direction == "received")
        framed += all_framed
        count += messages
        labels += label
        data += payload if kind in _OF_PICTURES else 0
        layer += payload if kind == MessageKind.LAYER else 0
        basis += payload if kind == MessageKind.BASIS else 0
        logits += payload if kind == MessageKind.LOGITS else 0
        network += payload if kind == MessageKind.NETWORK else 0
        setup += serialized if kind == MessageKind.SETUP else 0
    framing = count * GRPC_PREFIX_BYTES
    return SiteOverhead(
        **asdict(site),
        uplink_bytes=up,
        downlink_bytes=down,
        data_bytes=data,
        resent_bytes=resent[1],
        resent_samples=resent[0],
        label_bytes=labels,
        layer_bytes=layer,
        basis_bytes=basis,
        logits_bytes=logits,
        network_bytes=network,
        setup_bytes=setup,
        control_bytes=framed - framing - data - labels - layer - basis - logits - network - setup,
        framing_bytes=framing,
    )
