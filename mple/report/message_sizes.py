"""How large the messages are: counts and bytes by powers of two, from the sites' own ledgers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mple.report.axes import Axis, Tick, linear_axis
from mple.report.quantities import binary_size_text, size_text

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
    with closing(sqlite3.connect(merged)) as ledgers:
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
