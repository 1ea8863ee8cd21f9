"""Two runs side by side: what each came to, what the second has more or less of, and which settings differ."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mple.disk.whole_files import write_whole
from mple.metrics import METRICS
from mple.records.training import Outcome
from mple.report.charts import History, charts, history_of
from mple.report.page import environment
from mple.report.plan_facts import differing
from mple.report.quantities import change_text, duration_text, share_text, signed_text, size_text
from mple.report.score_words import interval_text, lowest_text
from mple.report.scores import TEST, TITLES, VAL, found_by_class
from mple.report.summary import Summary
from mple.report.tables import print_columns, say, table_of
from mple.report.waterfall import StepKind, Waterfall, waterfalls

_HASH_DIGITS = 16
_MOST_CLASSES = 50
_IDENTITIES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("run", lambda summary: summary.plan.run_id),
    ("plan, SHA-256", lambda summary: summary.outcome.plan_sha256),
    ("model, SHA-256", lambda summary: summary.outcome.model_sha256),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """How values of a quantity are said."""

    text: Callable[[float], str]
    """A value in words."""
    step: Callable[[float], str]
    """A difference in words, with its sign."""
    relative: bool = True
    """Whether the second over the first means something."""


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of both runs; None where a run has none."""

    name: str
    first: float | None
    second: float | None
    measure: Measure
    intervals: tuple[str, str] = ("", "")
    """Of 95 %, in words, where there are some."""

    @property
    def values(self) -> tuple[str, str]:
        """Both in words."""
        first, second = ("none" if value is None else self.measure.text(value) for value in (self.first, self.second))
        return first, second

    @property
    def difference(self) -> str:
        """The second less the first, and in percent of the first."""
        if self.first is None or self.second is None:
            return ""
        more = self.second - self.first
        text = self.measure.step(more)
        relative = self.measure.relative and self.first and more
        return f"{text} ({change_text(self.second / self.first)})" if relative else text


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
        lowest = [None if (view := one.views.get(TEST)) is None else view.lowest for one in self.summaries]
        if lowest[0] is not None and lowest[1] is not None:
            scores += f"; lowest sensitivity {_points(lowest[1].value - lowest[0].value)} ({lowest_text(lowest[1])})"
        seconds = second.outcome.train_seconds / first.outcome.train_seconds
        return (
            f"{self.names[1]} against {self.names[0]}: {bytes_words}; {scores}; training time {change_text(seconds)}; "
            + ("the same network, bit for bit" if self.same_model else "another network")
        )


def compare(first: Summary, second: Summary) -> Comparison:
    """Set two runs side by side."""
    whole_1, _ = waterfalls(first.folder.ledger, first.overhead)
    whole_2, _ = waterfalls(second.folder.ledger, second.overhead)
    return Comparison(
        names=_names(first.folder.path, second.folder.path),
        summaries=(first, second),
        falls=(whole_1, whole_2),
        histories=(history_of(first.metrics), history_of(second.metrics)),
        groups=(
            ("Bytes over the sites' links", _sizes(whole_1, whole_2)),
            ("Ratios", _ratios(first, second, whole_1, whole_2)),
            ("Results", _results(first, second)),
            *((_class_title(first), rows) for rows in [_by_class(first, second)] if rows),
            ("Time", tuple(Row(name, of(first.outcome), of(second.outcome), how) for name, of, how in _TIMES)),
        ),
        settings=tuple(differing(first.plan, second.plan)),
        identities=tuple((name, of(first)[:_HASH_DIGITS], of(second)[:_HASH_DIGITS]) for name, of in _IDENTITIES),
    )


def write_comparison_page(comparison: Comparison, out: Path) -> None:
    """Write the comparison as one page, made like a run's own. Raises OSError: the disk refuses."""
    histories = list(zip(comparison.names, comparison.histories, strict=True))
    longest = max(fall.total_bytes / max(1, fall.raw_pixel_bytes) for fall in comparison.falls)
    template = environment().get_template("comparison.html.j2")
    text = template.render(comparison=comparison, charts=charts(histories), longest=max(1.0, longest))
    write_whole(out, text.encode())


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table for each group of quantities, the settings that differ, and the comparison in a sentence. Readable
    without colours."""
    for title, rows in comparison.groups:
        values = list(zip(*(row.values for row in rows), strict=True))
        columns = [(name, column) for name, column in zip(comparison.names, values, strict=True)]
        columns.append(("difference", tuple(row.difference for row in rows)))
        print_columns(console, title, [row.name for row in rows], columns)
    settings = table_of("Settings that differ", [""], comparison.names)
    for line in (*comparison.settings, *comparison.identities):
        settings.add_row(*line)
    console.print(settings)
    say(console, comparison.verdict)


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
    pairs = zip(first.steps, second.steps, strict=True)
    return tuple(Row(one.name, one.size_bytes, other.size_bytes, _BYTES) for one, other in pairs)


def _ratios(first: Summary, second: Summary, whole_1: Waterfall, whole_2: Waterfall) -> tuple[Row, ...]:
    one, other = (
        next(step.share for step in whole.steps if step.kind is StepKind.DATA) for whole in (whole_1, whole_2)
    )
    return (
        Row("all that crossed, against raw pixels", whole_1.ratio, whole_2.ratio, _RATIO),
        Row("morphed pictures alone", one, other, _RATIO),
        Row("elements, as the papers count", first.elements.sent_ratio, second.elements.sent_ratio, _RATIO),
    )


def _results(first: Summary, second: Summary) -> tuple[Row, ...]:
    one, other = (summary.epochs[-1].loss if summary.epochs else None for summary in (first, second))
    return (
        Row("epochs", len(first.epochs), len(second.epochs), _NUMBER),
        Row("kept epoch", first.judged.kept_epoch, second.judged.kept_epoch, _NUMBER),
        *(row for split in (TEST, VAL) for row in _scores(split, first, second)),
        Row("loss of the last epoch", one, other, _LOSS),
    )


def _scores(split: str, first: Summary, second: Summary) -> list[Row]:
    """Every metric of a split that one of both has, and the sensitivity of the class that is found least."""
    pair = first.views.get(split), second.views.get(split)
    rows = []
    for name in METRICS:
        scores = [None if view is None else view.whole.metrics.get(name) for view in pair]
        one, other = (None if score is None else score.value for score in scores)
        intervals = [interval_text(None if score is None else score.interval) for score in scores]
        if one is not None or other is not None or (split, name) == (TEST, "accuracy"):
            rows.append(Row(f"{split} {TITLES[name]}", one, other, _SCORE, (intervals[0], intervals[1])))
    lowest = [None if view is None else view.lowest for view in pair]
    if any(lowest):
        values = [None if one is None else one.value for one in lowest]
        texts = ["" if one is None else lowest_text(one) for one in lowest]
        rows.append(Row(f"{split} lowest sensitivity", values[0], values[1], _SCORE, (texts[0], texts[1])))
    return rows


def _class_title(summary: Summary) -> str:
    more = len(summary.plan.classes) - _MOST_CLASSES
    return "Test pictures by class" + (f", {more:,} further ones left out" if more > 0 else "")


def _by_class(first: Summary, second: Summary) -> tuple[Row, ...]:
    """Areas and sensitivities of the classes that both runs have by name."""
    pair = [summary.views.get(TEST) for summary in (first, second)]
    if pair[0] is None or pair[1] is None or first.plan.classes != second.plan.classes:
        return ()
    found = [
        found_by_class(view.whole.figures.confusion, first.plan.classes, several=view.several)
        for view in pair
        if view is not None
    ]
    rows = []
    for name in first.plan.classes[:_MOST_CLASSES]:
        counts = [one.get(name) for one in found]
        values = [None if one is None else one[0] / one[1] for one in counts]
        texts = ["" if one is None else f"{one[0]:,} of {one[1]:,}" for one in counts]
        rows.append(Row(f"{name}: sensitivity", values[0], values[1], _SCORE, (texts[0], texts[1])))
        areas = [None if view is None else view.whole.metrics.get("auroc") for view in pair]
        values = [None if one is None else one.by_class.get(name) for one in areas]
        texts = [interval_text(None if one is None else one.intervals.get(name)) for one in areas]
        rows.append(Row(f"{name}: AUROC", values[0], values[1], _SCORE, (texts[0], texts[1])))
    return tuple(row for row in rows if row.first is not None or row.second is not None)


def _more_fine(number: float) -> str:
    return signed_text(number, ".4f")


def _points(number: float) -> str:
    return f"{signed_text(100 * number, '.2f')} points"


_BYTES = Measure(size_text, lambda more: size_text(more) if more <= 0 else f"+{size_text(more)}")
_COUNT = Measure("{:,.0f}".format, lambda more: signed_text(more, ",.0f"))
_NUMBER = Measure(_COUNT.text, _COUNT.step, relative=False)
_SECONDS = Measure(duration_text, lambda more: f"{signed_text(more, ',.1f')} s")
_LOSS = Measure("{:.4f}".format, _more_fine)
_SCORE = Measure(_LOSS.text, _more_fine, relative=False)
_SHARE = Measure(share_text, _points, relative=False)
_RATIO = Measure(change_text, _points, relative=False)
_TIMES: tuple[tuple[str, Callable[[Outcome], float], Measure], ...] = (
    ("training", lambda outcome: outcome.train_seconds, _SECONDS),
    ("samples a second", lambda outcome: outcome.samples_trained / outcome.train_seconds, _COUNT),
    ("first layer, of training", lambda outcome: outcome.augconv_seconds / outcome.train_seconds, _SHARE),
    ("waiting, of training", lambda outcome: outcome.idle_seconds / outcome.train_seconds, _SHARE),
)
