"""What crossed the sites' links, from their own ledgers: over time by kind and direction, by size, and by method."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mple.meter import MessageKind
from mple.meter.ledger_reading import opened_ledger
from mple.report.charts import Axis, Tick, linear_axis
from mple.report.quantities import SPACE, binary_size_text, duration_text, size_text

_BINS = 120
_MOST = 0.9
_EARLY_SHARE = 0.25
_OF_SITES = "FROM messages WHERE node LIKE 'site/%'"
_LEAST_HEIGHT = 8.0
"""Of a bar that stands for any message at all, in percent of its lane, so that it can be seen."""
KIND_NAMES: dict[str, str] = {
    MessageKind.DATA: "training pictures",
    MessageKind.VAL_DATA: "validation pictures",
    MessageKind.TEST_DATA: "test pictures",
    MessageKind.LAYER: "augmented layers",
    MessageKind.BASIS: "bases",
    MessageKind.SETUP: "set-up",
    MessageKind.REQUEST: "requests for samples",
    MessageKind.LOGITS: "logits",
    MessageKind.SCORE: "scores",
    MessageKind.EVENT: "events",
    MessageKind.REPORT: "reports",
    MessageKind.NETWORK: "trained network",
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
    with opened_ledger(merged) as ledgers:
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
        name=KIND_NAMES.get(kind, kind),
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


_LABEL_EVERY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeClass:
    """Messages from one power of two to below the next, prefix included."""

    low_bytes: int
    messages: tuple[int, int]
    """That the sites sent, and received."""
    total_bytes: tuple[int, int]

    @property
    def name(self) -> str:
        """Its bounds."""
        return f"{binary_size_text(self.low_bytes)} to {binary_size_text(2 * self.low_bytes)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One histogram over the classes: heights in percent."""

    title: str
    axis: Axis
    heights: tuple[tuple[float, float], ...]
    """Of what was sent, and received."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeHistogram:
    """All classes between the smallest and the largest message."""

    classes: tuple[SizeClass, ...]
    ticks: tuple[Tick, ...]
    """Lower bounds of some classes."""
    messages: Panel
    total_bytes: Panel

    @property
    def class_percent(self) -> float:
        """Width of each class."""
        return 100 / len(self.classes)


def size_histogram(merged: Path) -> SizeHistogram:
    """The histogram over all sites; their ledgers must not be empty."""
    with opened_ledger(merged) as ledgers:
        rows = ledgers.execute(
            "SELECT framed_bytes, direction, COUNT(*), SUM(framed_bytes) FROM messages "
            "WHERE node LIKE 'site/%' GROUP BY framed_bytes, direction"
        ).fetchall()
    counts: dict[int, list[int]] = {}
    for framed, direction, count, size in rows:
        found = counts.setdefault(framed.bit_length() - 1, [0, 0, 0, 0])
        way = direction != "sent"
        found[way] += count
        found[2 + way] += size
    classes = []
    for power in range(min(counts), max(counts) + 1):
        sent, received, sent_bytes, received_bytes = counts.get(power, (0, 0, 0, 0))
        classes.append(
            SizeClass(low_bytes=1 << power, messages=(sent, received), total_bytes=(sent_bytes, received_bytes))
        )
    ticks = [
        Tick(100 * place / len(classes), binary_size_text(one.low_bytes))
        for place, one in enumerate(classes)
        if one.low_bytes.bit_length() % _LABEL_EVERY == 1 and place < len(classes) - 1
    ]
    return SizeHistogram(
        classes=tuple(classes),
        ticks=tuple(ticks),
        messages=_panel("messages", [one.messages for one in classes], text=lambda value: f"{value:,.0f}"),
        total_bytes=_panel("bytes", [one.total_bytes for one in classes], text=size_text),
    )


def _panel(title: str, pairs: list[tuple[int, int]], text: Callable[[float], str]) -> Panel:
    axis = linear_axis(title, 0, max(max(pair) for pair in pairs), most=4, text=text)
    heights = tuple((axis.percent(sent), axis.percent(received)) for sent, received in pairs)
    return Panel(title=title, axis=axis, heights=heights)


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
    with opened_ledger(merged) as ledgers:
        ledgers.row_factory = sqlite3.Row
        rows = ledgers.execute(
            "SELECT method, peer AS role, COUNT(*) AS calls, SUM(sent) AS sent_messages, SUM(sent_bytes) AS sent_bytes,"
            " SUM(received) AS received_messages, SUM(received_bytes) AS received_bytes, MAX(largest) AS largest_bytes,"
            " MAX(ns) / 1e9 AS longest_s FROM (SELECT method, SUBSTR(peer, 1, INSTR(peer, '/') - 1) AS peer, "
            "SUM(direction = 'sent') AS sent, SUM(framed_bytes * (direction = 'sent')) AS sent_bytes, "
            "SUM(direction = 'received') AS received, SUM(framed_bytes * (direction = 'received')) AS received_bytes, "
            "MAX(framed_bytes) AS largest, MAX(time_unix_ns) - MIN(time_unix_ns) AS ns FROM messages "
            "WHERE node LIKE 'site/%' GROUP BY node, call_id) AS call GROUP BY method, peer "
            "ORDER BY SUM(call.sent_bytes) + SUM(call.received_bytes) DESC"
        )
        return [MethodRow(**row) for row in rows]
