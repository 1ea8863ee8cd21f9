"""Bytes over time: one lane for each kind of message and direction, from the sites' own ledgers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mple.meter import MessageKind
from mple.report.axes import Axis, linear_axis
from mple.report.quantities import SPACE, duration_text

_BINS = 120
_MOST = 0.9
_EARLY_SHARE = 0.25
_OF_SITES = "FROM messages WHERE node LIKE 'site/%'"
_LEAST_HEIGHT = 8.0
"""Of a bar that stands for any message at all, in percent of its lane, so that it can be seen."""
KIND_NAMES = {
    MessageKind.DATA: "training pictures",
    MessageKind.TEST_DATA: "test pictures",
    MessageKind.LAYER: "augmented layers",
    MessageKind.SETUP: "set-up",
    MessageKind.REQUEST: "requests for samples",
    MessageKind.LOGITS: "logits",
    MessageKind.SCORE: "scores",
    MessageKind.EVENT: "events",
    MessageKind.REPORT: "reports",
    MessageKind.PREDICT: "predictions",
    MessageKind.CONTROL: "diagnoses",
    MessageKind.OTHER: "other",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Bytes of one span of time, in percent of the lane's width and of its highest bar."""

    start: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """Messages of one kind and direction."""

    name: str
    sent: bool
    """By the sites."""
    messages: int
    total_bytes: int
    peak_bytes_per_s: float
    """In the fullest span."""
    first_s: float
    last_s: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """All lanes over a common axis of seconds since the first message."""

    title: str
    """The span of time, in words."""
    axis: Axis
    bin_s: float
    bar_percent: float
    """Width of every bar."""
    lanes: tuple[Lane, ...]
    """What the sites sent first, then what they received; the largest first."""
    phases: tuple[tuple[str, float, float], ...]
    """Names, seconds at which they began at the first site, and percent of the axis."""


def traffic(merged: Path) -> tuple[Traffic, ...]:
    """The messages of all sites by time, kind and direction: over the whole run and, where 90 % of the bytes crossed in
    its first quarter, over that beginning, too. The sites' ledgers must not be empty."""
    with closing(sqlite3.connect(merged)) as ledgers:
        begin, end = ledgers.execute(f"SELECT MIN(time_unix_ns), MAX(time_unix_ns) {_OF_SITES}").fetchone()
        crossed = _crossed(ledgers)
        whole = _traffic(ledgers, begin, end, "the whole run")
        if crossed - begin >= _EARLY_SHARE * (end - begin):
            return (whole,)
        most = f"{100 * _MOST:.0f}{SPACE}% of the bytes"
        title = f"the first {duration_text((crossed - begin) / 1e9)}, in which {most} crossed"
        return whole, _traffic(ledgers, begin, crossed, title)


def _crossed(ledgers: sqlite3.Connection) -> int:
    """When most of the bytes had crossed."""
    (total,) = ledgers.execute(f"SELECT SUM(framed_bytes) {_OF_SITES}").fetchone()
    so_far = 0
    for moment, size in ledgers.execute(f"SELECT time_unix_ns, framed_bytes {_OF_SITES} ORDER BY time_unix_ns"):
        so_far += size
        if so_far >= _MOST * total:
            return int(moment)
    raise AssertionError(total)


def _traffic(ledgers: sqlite3.Connection, begin: int, end: int, title: str) -> Traffic:
    bin_ns = max(1, -(-(end - begin + 1) // _BINS))
    rows = ledgers.execute(
        "SELECT kind, direction, (time_unix_ns - ?) / ?, SUM(framed_bytes), COUNT(*), MIN(time_unix_ns) - ?, "
        f"MAX(time_unix_ns) - ? {_OF_SITES} AND time_unix_ns <= ? GROUP BY 1, 2, 3 ORDER BY 3",
        (begin, bin_ns, begin, begin, end),
    )
    spans: dict[tuple[str, str], list[tuple[int, int, int, int, int]]] = {}
    for kind, direction, *span in rows:
        spans.setdefault((kind, direction), []).append((span[0], span[1], span[2], span[3], span[4]))
    phases = ledgers.execute(
        f"SELECT phase, MIN(time_unix_ns) - ? AS since {_OF_SITES} AND phase != '' AND time_unix_ns <= ? "
        "GROUP BY phase ORDER BY since",
        (begin, end),
    ).fetchall()
    axis = linear_axis("seconds since the first message", 0.0, bin_ns * _BINS / 1e9, most=6, fixed=True)
    lanes = [_lane(kind, direction, found, bin_ns / 1e9) for (kind, direction), found in spans.items()]
    return Traffic(
        title=title,
        axis=axis,
        bin_s=bin_ns / 1e9,
        bar_percent=100 / _BINS,
        lanes=tuple(sorted(lanes, key=lambda lane: (not lane.sent, -lane.total_bytes))),
        phases=tuple((phase, since / 1e9, axis.percent(since / 1e9)) for phase, since in phases),
    )


def _lane(kind: str, direction: str, spans: list[tuple[int, int, int, int, int]], bin_s: float) -> Lane:
    highest = max(size for _, size, _, _, _ in spans)
    return Lane(
        name=KIND_NAMES[MessageKind(kind)],
        sent=direction == "sent",
        messages=sum(count for _, _, count, _, _ in spans),
        total_bytes=sum(size for _, size, _, _, _ in spans),
        peak_bytes_per_s=highest / bin_s,
        first_s=min(first for *_, first, _ in spans) / 1e9,
        last_s=max(last for *_, last in spans) / 1e9,
        bars=tuple(
            Bar(100 * place / _BINS, max(_LEAST_HEIGHT, 100 * size / highest)) for place, size, _, _, _ in spans
        ),
    )
