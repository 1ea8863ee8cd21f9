"""What the page shows of one split: tables and charts of all sites and of each. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from mple.metrics import METRICS
from mple.records.site_scores import Figures
from mple.report.few_sites import few_of
from mple.report.quantities import share_text
from mple.report.score_charts import ClassCurves, Reliability, precision_recall_chart, reliability, roc_chart
from mple.report.score_words import balanced_accuracy, class_columns, interval_of, value_text
from mple.report.scores import TITLES, SplitView, View, found_by_class

_TABLE_VIEWS = 4
_MOST_MATRIX, _MOST_PAIRS, _MOST_SITES = 12, 20, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTable:
    """A row for each class."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Names; values and their intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A confusion matrix of few classes."""

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, str, float], ...]], ...]
    """Names; counts, shares of the row in words, and in numbers for shading."""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CountTable:
    """A plain table."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewParts:
    """Of one view; None for what there is none of."""

    title: str
    several: bool
    classes: ClassTable | None
    roc: ClassCurves | None
    precision_recall: ClassCurves | None
    matrix: Matrix | None
    counted: CountTable | None
    """Of labels their two by two tables; of many classes the most frequent confusions."""
    reliability: Reliability | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitParts:
    """Of one split: what `ViewParts` has, of all sites, and more."""

    whole: ViewParts
    notes: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    """Names and titles of the rows of the tables by site."""
    site_groups: tuple[tuple[View, ...], ...]
    """Columns of these tables, some in each; first of all sites."""
    sites: tuple[ViewParts, ...]
    """Of each site whose own file is at hand, where they are few."""


def split_parts(view: SplitView, classes: Sequence[str], *, sites: bool) -> SplitParts:
    """What there is to show of a split; with `sites` each one's classes and figures, too."""
    names = [name for name in METRICS if name in view.whole.metrics or name in view.whole.missing]
    columns = (view.whole, *(few_of(view.sites, balanced_accuracy)[0] if len(view.sites) > 1 else ()))
    exact = [one for one in view.sites if one.exact]
    shown = exact if sites and 1 < len(view.sites) <= _MOST_SITES else []
    return SplitParts(
        whole=view_parts(view, view.whole, classes),
        notes=view.notes,
        metrics=tuple((name, TITLES[name]) for name in names),
        site_groups=tuple(columns[low : low + _TABLE_VIEWS] for low in range(0, len(columns), _TABLE_VIEWS)),
        sites=tuple(view_parts(view, one, classes) for one in shown),
    )


def view_parts(split: SplitView, view: View, classes: Sequence[str]) -> ViewParts:
    """Of all sites, or of one."""
    title, figures = f"{split.name.capitalize()} pictures of {view.name}", view.figures
    matrix = counted = None
    if figures.confusion:
        if split.several:
            counted = _two_by_two(figures, classes, title)
        elif len(classes) <= _MOST_MATRIX:
            matrix = _matrix(figures, classes, title)
        else:
            counted = _most_confused(figures, classes, title)
    return ViewParts(
        title=title,
        several=split.several,
        classes=_class_table(split, view, classes, title),
        roc=roc_chart(view),
        precision_recall=precision_recall_chart(view),
        matrix=matrix,
        counted=counted,
        reliability=reliability(figures.calibration, several=split.several),
    )


def _class_table(split: SplitView, view: View, classes: Sequence[str], title: str) -> ClassTable | None:
    metrics = [(name, heading) for name, heading in class_columns(split) if _by_class(view, name)]
    if not metrics:
        return None
    counted = found_by_class(view.figures.confusion, classes, several=split.several)
    rows = []
    for name in classes:
        found = f"{counted[name][0]:,} of {counted[name][1]:,}" if name in counted else ""
        cells = [(value_text(view, metric, name), interval_of(view, metric, name)) for metric, _ in metrics]
        rows.append((name, ((found, ""), *cells)))
    return ClassTable(
        title=f"{title}, by class", headings=("found", *(heading for _, heading in metrics)), rows=tuple(rows)
    )


def _by_class(view: View, metric: str) -> bool:
    return metric in view.metrics and bool(view.metrics[metric].by_class)


def _matrix(figures: Figures, classes: Sequence[str], title: str) -> Matrix:
    rows = []
    for name, counts in zip(classes, figures.confusion, strict=False):
        whole = sum(counts)
        shares = [count / whole if whole else 0.0 for count in counts]
        cells = zip(counts, shares, strict=True)
        rows.append((name, tuple((count, f"{100 * share:.0f} %", round(share, 3)) for count, share in cells)))
    empty = [name for name, cells in rows if not any(count for count, _, _ in cells)]
    note = f"Without a picture that is told of: {', '.join(empty)}." if empty else ""
    return Matrix(title=f"{title}: confusion", names=tuple(classes), rows=tuple(rows), note=note)


def _two_by_two(figures: Figures, classes: Sequence[str], title: str) -> CountTable:
    rows = [
        (name, f"{hit:,}", f"{missed:,}", f"{wrong:,}", f"{rejected:,}")
        for name, (rejected, wrong, missed, hit) in zip(classes, figures.confusion, strict=False)
    ]
    return CountTable(
        title=f"{title}: said at probability 0.5",
        headings=("label", "there, said", "there, not said", "absent, said", "absent, not said"),
        rows=tuple(rows),
    )


def _most_confused(figures: Figures, classes: Sequence[str], title: str) -> CountTable:
    pairs = [
        (count, sum(row), name, classes[place])
        for own, (name, row) in enumerate(zip(classes, figures.confusion, strict=False))
        for place, count in enumerate(row[: len(classes)])
        if count and place != own
    ]
    pairs.sort(key=lambda one: (-one[0], one[2], one[3]))
    return CountTable(
        title=f"{title}: most frequent confusions",
        headings=("true class", "taken for", "pictures", "of the class"),
        rows=tuple(
            (name, other, f"{count:,}", share_text(count / of)) for count, of, name, other in pairs[:_MOST_PAIRS]
        ),
    )
