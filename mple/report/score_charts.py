"""ROC and precision-recall curves by class, and how probabilities agree with frequencies, as charts. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mple.records.site_scores import CalibrationBin, Curves
from mple.report.charts import Axis, Line, LineChart, Marker, linear_axis, path_of
from mple.report.score_words import number_text, some
from mple.report.scores import TITLES, View

MOST_CURVES = 10
_MOST_NAMED = 30
_CHANCE = ((0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCurves:
    """A chart with a curve for each of at most ten classes."""

    chart: LineChart
    left_out: str
    """Which classes are not drawn; empty where all are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How often what is said with a probability is right, and how often it is said with it."""

    chart: LineChart
    bars: tuple[tuple[float, float, float, str], ...]
    """Left end, width and height in percent, and the count in words."""
    counts: Axis
    rows: tuple[tuple[str, str, str, str], ...]
    """Bin, count, mean probability, share that is right; in words."""


def roc_chart(view: View) -> ClassCurves | None:
    """ROC curves of the classes with the smallest areas first, and the line of chance; None where there are none."""
    x, y = _part_axis("false positive rate"), _part_axis("true positive rate")
    return _class_curves(
        view,
        "auroc",
        "ROC curves: true over false positive rate",
        lambda one: one.roc,
        x,
        y,
        (_line("chance", "faint", _CHANCE, x, y),),
    )


def precision_recall_chart(view: View) -> ClassCurves | None:
    """Precision-recall curves, likewise; None where there are none."""
    x, y = _part_axis("recall"), _part_axis("precision")
    return _class_curves(view, "average_precision", "Precision over recall", lambda one: one.precision_recall, x, y, ())


def reliability(bins: Sequence[CalibrationBin], *, several: bool) -> Reliability | None:
    """The reliability diagram of bins of equal width from 0 to 1; None without a sample."""
    if not sum(one.count for one in bins):
        return None
    x = _part_axis("mean probability in a bin")
    y = _part_axis("share that has the label" if several else "share that is right")
    filled = [one for one in bins if one.count and one.chance is not None]
    points = [(one.chance or 0.0, one.right / one.count) for one in filled]
    texts = [
        f"{one.right:,} of {one.count:,} at a mean probability of {number_text(one.chance or 0.0)}" for one in filled
    ]
    markers = tuple(
        Marker(x.percent(at), round(100 - y.percent(value), 3), text)
        for (at, value), text in zip(points, texts, strict=True)
    )
    chart = LineChart(
        title=f"Calibration: {y.title} over probability",
        x=x,
        y=y,
        lines=(
            _line("as sure as right", "faint", _CHANCE, x, y),
            Line(name="this network", style="first", path=path_of(points, x, y), markers=markers, last=""),
        ),
        about=f"Calibration: {'; '.join(texts)}",
    )
    counts = linear_axis("count", 0, max(one.count for one in bins), most=3, text=lambda value: f"{value:,.0f}")
    width = 100 / len(bins)
    edges = [f"{place / len(bins):.2f} to {(place + 1) / len(bins):.2f}" for place in range(len(bins))]
    return Reliability(
        chart=chart,
        bars=tuple(
            (round(place * width, 3), round(width * 0.86, 3), counts.percent(one.count), f"{edge}: {one.count:,}")
            for place, (edge, one) in enumerate(zip(edges, bins, strict=True))
        ),
        counts=counts,
        rows=tuple(
            (edge, f"{one.count:,}", number_text(one.chance or 0.0), number_text(one.right / one.count))
            for edge, one in zip(edges, bins, strict=True)
            if one.count
        ),
    )


def _class_curves(
    view: View,
    metric: str,
    title: str,
    points_of: Callable[[Curves], Sequence[tuple[float, float]]],
    x: Axis,
    y: Axis,
    before: tuple[Line, ...],
) -> ClassCurves | None:
    score = view.metrics.get(metric)
    areas: Mapping[str, float | None] = score.by_class if score is not None else {}
    drawn = {name: points for name, curves in view.figures.curves.items() if (points := points_of(curves))}
    if not drawn:
        return None
    order = sorted(drawn, key=lambda name: (2.0 if (area := areas.get(name)) is None else area, name))
    lines = [
        _line(name, f"class-{place}", drawn[name], x, y, areas.get(name), TITLES[metric])
        for place, name in enumerate(order[:MOST_CURVES])
    ]
    rest = order[MOST_CURVES:]
    none = [name for name in view.figures.curves if name not in drawn]
    said = [f"not drawn, with larger areas: {some(rest, _MOST_NAMED)}"] if rest else []
    for why in dict.fromkeys(view.why(metric, name) for name in none):
        names = [name for name in none if view.why(metric, name) == why]
        said.append(f"without a curve, {why}: {some(names, _MOST_NAMED)}")
    ends = "; ".join(f"{line.name} {line.last or 'without area'}" for line in lines)
    chart = LineChart(title=title, x=x, y=y, lines=(*before, *lines), about=f"{title}, areas by class: {ends}")
    return ClassCurves(chart=chart, left_out="; ".join(said))


def _part_axis(title: str) -> Axis:
    return linear_axis(title, 0.0, 1.0, most=6, text=lambda value: f"{value:.1f}")


def _line(
    name: str,
    style: str,
    points: Sequence[tuple[float, float]],
    x: Axis,
    y: Axis,
    area: float | None = None,
    word: str = "",
) -> Line:
    last = "" if area is None else number_text(area)
    return Line(name=name, style=style, path=path_of(points, x, y), last=last, word=word)
