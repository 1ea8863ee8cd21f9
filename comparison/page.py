"""A comparison as one page, drawn with the report's templates: bars on logarithmic axes, and all tables.

Legend: a bar is one phase of one method.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from comparison.compare import Comparison
from comparison.learned import LEARNED
from comparison.tables import about, reasons, tables, title
from mple.report.charts import Tick
from mple.report.page import environment
from mple.report.quantities import duration_text, size_text

_PHASES = (("computed", "set-up, spread"), ("data", "offline"), ("layer", "online"))
"""How each phase's bar is drawn, and its name; of what comes from elsewhere only the whole is known, as online."""

_MOST_TICKS = 5
"""So many labels have room on a narrow page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One phase."""

    name: str
    style: str
    lane: int
    """Its place below the others of its row, from 0."""
    text: str
    percent: float
    """Its length, 0 to 100; 0 where it is too small to be drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BarRow:
    """One method."""

    name: str
    total: str
    bars: tuple[Bar, ...]

    @property
    def description(self) -> str:
        """What somebody who can't see it needs to know."""
        return ", ".join(f"{bar.name} {bar.text}" for bar in self.bars)


@dataclass(frozen=True, kw_only=True, slots=True)
class BarChart:
    """One quantity of all methods, over decades."""

    title: str
    ticks: tuple[Tick, ...]
    rows: tuple[BarRow, ...]


def page(comparison: Comparison) -> str:
    """The HTML of a comparison's page."""
    return (
        environment("comparison")
        .get_template("methods.html.j2")
        .render(
            title=title(comparison),
            about=about(comparison),
            charts=charts(comparison),
            legend=_PHASES,
            tables=tables(comparison),
            reasons=reasons(comparison),
        )
    )


def charts(comparison: Comparison) -> tuple[BarChart, ...]:
    """Bytes and seconds of an inference of each method that was measured, set-up spread."""
    sizes, times = {}, {}
    for row in comparison.rows:
        name, spread = LEARNED[row.method].title, row.inferences
        sizes[name] = (row.setup.total_bytes / spread, row.offline.total_bytes, row.online.total_bytes)
        times[name] = (row.setup.wall_s / spread, row.offline.wall_s, row.online.wall_s)
    for other in comparison.elsewhere:
        if not other.skipped:
            name = LEARNED[other.method].title
            sizes[name] = (0.0, 0.0, other.steady_bytes or other.first_bytes or 0.0)
            times[name] = (0.0, 0.0, other.steady_s or other.first_s or 0.0)
    return (_chart("bytes of an inference", sizes, size_text), _chart("seconds of an inference", times, duration_text))


def _chart(title: str, rows: Mapping[str, tuple[float, ...]], text: Callable[[float], str]) -> BarChart:
    """Over all decades from the smallest row's total to the largest's."""
    totals = [sum(values) for values in rows.values()]
    low = math.floor(math.log10(min(total for total in totals if total > 0)) - 0.3)
    high = math.ceil(math.log10(max(totals)))
    step = -(-(high - low) // _MOST_TICKS)

    def percent(value: float) -> float:
        return round(max(0.0, 100 * (math.log10(value) - low) / (high - low)), 3) if value > 0 else 0.0

    def bars(values: Sequence[float]) -> tuple[Bar, ...]:
        return tuple(
            Bar(name=name, style=style, lane=lane, text=text(value), percent=percent(value))
            for lane, ((style, name), value) in enumerate(zip(_PHASES, values, strict=True))
        )

    return BarChart(
        title=title,
        ticks=tuple(Tick(percent(10.0**power), text(10.0**power)) for power in range(low, high + 1, step)),
        rows=tuple(BarRow(name=name, total=text(sum(values)), bars=bars(values)) for name, values in rows.items()),
    )
