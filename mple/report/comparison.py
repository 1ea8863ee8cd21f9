"""Two runs side by side: what each came to, what the second has more or less of, and which settings differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mple.disk.whole_files import write_whole
from mple.model.metrics import METRICS
from mple.report.charts import History, charts, history_of
from mple.report.page import environment
from mple.report.plan_facts import differing
from mple.report.quantities import change_text, duration_text, share_text, signed_text, size_text
from mple.report.summary import Summary
from mple.report.waterfall import StepKind, Waterfall, waterfalls

_HASH_DIGITS = 16
_IDENTITIES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("run", lambda summary: summary.plan.run_id),
    ("plan, SHA-256", lambda summary: summary.outcome.plan_sha256),
    ("model, SHA-256", lambda summary: summary.outcome.model_sha256),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One quantity of both runs; None where a run has none."""

    name: str
    first: float | None
    second: float | None
    text: Callable[[float], str]
    """A value in words."""
    step: Callable[[float], str]
    """A difference in words, with its sign."""
    relative: bool = True
    """Whether the second over the first means something."""

    @property
    def values(self) -> tuple[str, str]:
        """Both in words."""
        first, second = ("none" if value is None else self.text(value) for value in (self.first, self.second))
        return first, second

    @property
    def difference(self) -> str:
        """The second less the first, and in percent of the first."""
        if self.first is None or self.second is None:
            return ""
        more = self.second - self.first
        text = self.step(more)
        return f"{text} ({change_text(self.second / self.first)})" if self.relative and self.first and more else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Of two runs, in the order they were named."""

    names: tuple[str, str]
    """Of their folders."""
    summaries: tuple[Summary, Summary]
    falls: tuple[Waterfall, Waterfall]
    """Of all sites of each."""
    histories: tuple[History, History]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    """Titles and quantities."""
    settings: tuple[tuple[str, str, str], ...]
    """`section.name` and both values, where they differ."""
    identities: tuple[tuple[str, str, str], ...]
    """Run, plan and model, shortened."""

    @property
    def same_model(self) -> bool:
        """Whether the trained networks are equal, bit for bit."""
        first, second = (summary.outcome.model_sha256 for summary in self.summaries)
        return first == second

    @property
    def verdict(self) -> str:
        """The comparison in a sentence."""
        (one, other), (first, second) = self.falls, self.summaries
        bytes_words = f"{change_text(other.total_bytes / max(1, one.total_bytes))} bytes over the links"
        if one.raw_pixel_bytes != other.raw_pixel_bytes:
            bytes_words += f" (raw pixels {change_text(other.raw_pixel_bytes / max(1, one.raw_pixel_bytes))})"
        scores = "; ".join(_score_words(name, first, second) for name, metric in METRICS.items() if metric.brief)
        seconds = second.outcome.train_seconds / first.outcome.train_seconds
        return (
            f"{self.names[1]} against {self.names[0]}: {bytes_words}; {scores}; training time {change_text(seconds)}; "
            + ("the same network, bit for bit" if self.same_model else "another network")
        )


def compare(first: Summary, second: Summary) -> Comparison:
    """Set two runs side by side."""
    names = _names(first.folder.path, second.folder.path)
    whole_1, _ = waterfalls(first.folder.ledger, first.overhead)
    whole_2, _ = waterfalls(second.folder.ledger, second.overhead)
    histories = history_of(first.metrics), history_of(second.metrics)
    return Comparison(
        names=names,
        summaries=(first, second),
        falls=(whole_1, whole_2),
        histories=histories,
        groups=(
            ("Bytes over the sites' links", _sizes(whole_1, whole_2)),
            ("Ratios", _ratios(first, second, whole_1, whole_2)),
            ("Results", _results(first, second)),
            ("Time", _times(first, second)),
        ),
        settings=tuple(differing(first.plan, second.plan)),
        identities=tuple((name, of(first)[:_HASH_DIGITS], of(second)[:_HASH_DIGITS]) for name, of in _IDENTITIES),
    )


def write_comparison_page(comparison: Comparison, out: Path) -> None:
    """Write the comparison as one page, made like a run's own.

    Raises:
        OSError: The disk refuses.
    """
    histories = list(zip(comparison.names, comparison.histories, strict=True))
    longest = max(fall.total_bytes / max(1, fall.raw_pixel_bytes) for fall in comparison.falls)
    text = (
        environment()
        .get_template("comparison.html.j2")
        .render(comparison=comparison, charts=charts(histories), longest=max(1.0, longest))
    )
    write_whole(out, text.encode())


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table for each group of quantities, the settings that differ, and the comparison in a sentence.

    Readable without colours.
    """
    first, second = comparison.names
    for title, rows in comparison.groups:
        table = _table(title, first, second, "difference")
        for row in rows:
            table.add_row(row.name, *row.values, row.difference)
        console.print(table)
    settings = _table("Settings that differ", first, second)
    for line in (*comparison.settings, *comparison.identities):
        settings.add_row(*line)
    console.print(settings)
    console.print(comparison.verdict, markup=False, highlight=False, soft_wrap=True)


def _score_words(metric: str, first: Summary, second: Summary) -> str:
    """What the second run has more of one score, in points where it is a share."""
    if metric not in first.scores or metric not in second.scores:
        return f"test {metric} not scored in both"
    more = second.scores[metric] - first.scores[metric]
    return f"test {metric} {_points(more) if METRICS[metric].most == 1 else _more_fine(more)}"


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' own names, or as much of their paths as tells them apart."""
    one, other = first.resolve(), second.resolve()
    if one.name != other.name or one == other:
        return one.name, other.name
    return str(first), str(second)


def _sizes(first: Waterfall, second: Waterfall) -> tuple[Row, ...]:
    return tuple(
        Row(name=one.name, first=one.size_bytes, second=other.size_bytes, text=size_text, step=_more_bytes)
        for one, other in zip(first.steps, second.steps, strict=True)
    )


def _ratios(first: Summary, second: Summary, whole_1: Waterfall, whole_2: Waterfall) -> tuple[Row, ...]:
    pairs = (
        ("all that crossed, against raw pixels", whole_1.ratio, whole_2.ratio),
        ("morphed pictures alone", _share(whole_1, StepKind.DATA), _share(whole_2, StepKind.DATA)),
        ("elements, as the papers count", first.elements.sent_ratio, second.elements.sent_ratio),
    )
    return tuple(
        Row(name=name, first=one, second=other, text=change_text, step=_points, relative=False)
        for name, one, other in pairs
    )


def _share(whole: Waterfall, kind: StepKind) -> float:
    return next(step.share for step in whole.steps if step.kind is kind)


def _results(first: Summary, second: Summary) -> tuple[Row, ...]:
    scores = (
        Row(
            name=f"test {name}",
            first=first.scores.get(name),
            second=second.scores.get(name),
            text=_fine,
            step=_more_fine,
            relative=False,
        )
        for name in METRICS
    )
    losses = [summary.epochs[-1].loss if summary.epochs else None for summary in (first, second)]
    return (
        Row(name="epochs", first=len(first.epochs), second=len(second.epochs), text=_count, step=_more, relative=False),
        *scores,
        Row(name="loss of the last epoch", first=losses[0], second=losses[1], text=_fine, step=_more_fine),
    )


def _times(first: Summary, second: Summary) -> tuple[Row, ...]:
    one, other = (_Times.of(summary) for summary in (first, second))
    return (
        Row(name="training", first=one.train_s, second=other.train_s, text=duration_text, step=_more_seconds),
        Row(name="samples a second", first=one.rate, second=other.rate, text=_count, step=_more),
        Row(
            name="first layer, of training",
            first=one.layer_share,
            second=other.layer_share,
            text=share_text,
            step=_points,
            relative=False,
        ),
        Row(
            name="waiting, of training",
            first=one.idle_share,
            second=other.idle_share,
            text=share_text,
            step=_points,
            relative=False,
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Times:
    train_s: float
    rate: float
    layer_share: float
    idle_share: float

    @classmethod
    def of(cls, summary: Summary) -> _Times:
        outcome = summary.outcome
        train_s = outcome.train_seconds
        return cls(
            train_s=train_s,
            rate=outcome.samples_trained / train_s,
            layer_share=outcome.augconv_seconds / train_s,
            idle_share=outcome.idle_seconds / train_s,
        )


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _fine(number: float) -> str:
    return f"{number:.4f}"


def _more(number: float) -> str:
    return signed_text(number, ",.0f")


def _more_fine(number: float) -> str:
    return signed_text(number, ".4f")


def _more_bytes(number: float) -> str:
    return size_text(number) if number <= 0 else f"+{size_text(number)}"


def _more_seconds(number: float) -> str:
    return f"{signed_text(number, ',.1f')} s"


def _points(number: float) -> str:
    return f"{signed_text(100 * number, '.2f')} points"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", box=None, pad_edge=False)
    table.title_justify = "left"
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table
