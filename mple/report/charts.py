"""Losses and scores as curves, of one run or of two over each other, from the lines of `metrics.jsonl`; axes with round
numbers, for other charts too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mple.metrics import METRICS
from mple.records.training import StepMetrics, TrainingMetrics, epochs_of
from mple.report.scores import TITLES

_MOST_POINTS = 300
_LEAST_LENGTH, _MOST_VALUE = 1e-30, 1e30
_MOST_MARKED = 40
"""Epochs up to which each has a marker."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A point with a text of its own, in percent of the plot from its left and top."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A curve in a plot of 100 by 100 whose origin is at its top left."""

    name: str
    style: str
    """`first`, `second` or `faint`: differ in colour and in dash."""
    path: str
    markers: tuple[Marker, ...] = ()
    last: str
    """Its last value in words, or what `word` says; empty for none."""
    word: str = "last"


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Curves over common axes."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    about: str = ""
    """What somebody who can't see it needs to know, where that is not where its lines end."""
    mark: float | None = None
    """A place on the axis of x, in percent, with `mark_text`."""
    mark_text: str = ""

    @property
    def description(self) -> str:
        """What somebody who can't see it needs to know."""
        if self.about:
            return self.about
        ends = "; ".join(f"{line.name} ends at {line.last}" for line in self.lines)
        return f"{self.title} by {self.x.title}: {ends}{'; ' * bool(self.mark_text)}{self.mark_text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """How training went: places on the common axis are epochs. Losses and scores are finite."""

    epochs: int
    """That were finished."""
    losses: tuple[tuple[float, float], ...]
    """Of every step: epochs done, loss."""
    epoch_losses: tuple[tuple[float, float], ...]
    scores: Mapping[str, tuple[tuple[float, float], ...]]
    """By metric, of epochs that have it only."""
    idle_shares: tuple[float, ...]
    """Part of each epoch in which the trainer waited for samples."""


def history_of(metrics: Sequence[TrainingMetrics]) -> History:
    """The history that a run's metrics tell."""
    steps = [one for one in metrics if isinstance(one, StepMetrics)]
    epochs = epochs_of(metrics)
    losses: list[tuple[float, float]] = []
    for one in steps:
        first = one.step - len(one.losses) + 1
        losses += [(one.epoch - 1 + step / one.steps, loss) for step, loss in enumerate(one.losses, first)]
    return History(
        epochs=epochs[-1].epoch if epochs else 0,
        losses=_drawable(losses),
        epoch_losses=_drawable((one.epoch, one.loss) for one in epochs),
        scores={
            name: _drawable((one.epoch, one.scores[name]) for one in epochs if name in one.scores) for name in METRICS
        },
        idle_shares=tuple(_idle([step for step in steps if step.epoch == one.epoch]) for one in epochs),
    )


def _drawable(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those with a number that an axis can hold: a network may diverge, and a file may say anything."""
    return tuple((place, value) for place, value in points if abs(value) <= _MOST_VALUE)


def charts(histories: Sequence[tuple[str, History]], kept_epoch: int | None = None) -> list[LineChart]:
    """The charts that there are points for: training loss, then each metric; a single run's name is empty, and its kept
    epoch is marked."""
    made = [loss_chart(histories), *(score_chart(metric, histories) for metric in METRICS)]
    found = [chart for chart in made if chart is not None]
    if kept_epoch is None:
        return found
    text = f"epoch {kept_epoch} is kept"
    return [replace(chart, mark=chart.x.percent(kept_epoch), mark_text=text) for chart in found]


def loss_chart(histories: Sequence[tuple[str, History]]) -> LineChart | None:
    """Losses of one run with every step, or of several runs by epoch; None when there are none."""
    alone = len(histories) == 1
    values = [
        loss for _, history in histories for _, loss in (*history.epoch_losses, *(history.losses if alone else ()))
    ]
    if not values:
        return None
    x = _epoch_axis(histories)
    y = linear_axis("training loss", min(0.0, *values), max(values))
    lines = []
    if alone and histories[0][1].losses:
        thinned = _thinned(histories[0][1].losses)
        name = "every step" if len(thinned) == len(histories[0][1].losses) else "steps, averaged for drawing"
        lines.append(
            Line(name=name, style="faint", path=path_of(thinned, x, y), last=f"{histories[0][1].losses[-1][1]:.4f}")
        )
    for place, (name, history) in enumerate(histories):
        if history.epoch_losses:
            lines.append(_epoch_line(name or "mean of an epoch", history.epoch_losses, place, x, y))
    return LineChart(title="Training loss", x=x, y=y, lines=tuple(lines))


def score_chart(metric: str, histories: Sequence[tuple[str, History]]) -> LineChart | None:
    """A metric after each epoch; None when no epoch was scored by it."""
    values = [value for _, history in histories for _, value in history.scores[metric]]
    if not values:
        return None
    x, high = _epoch_axis(histories), METRICS[metric].most
    y = linear_axis(
        f"validation {TITLES[metric]}", METRICS[metric].least, high if math.isfinite(high) else max(values), most=6
    )
    lines = [
        _epoch_line(name or "after an epoch", history.scores[metric], place, x, y)
        for place, (name, history) in enumerate(histories)
        if history.scores[metric]
    ]
    return LineChart(title=f"Validation {TITLES[metric]}", x=x, y=y, lines=tuple(lines))


def _epoch_axis(histories: Sequence[tuple[str, History]]) -> Axis:
    last = max(history.epochs for _, history in histories) or 1
    axis = linear_axis("epoch", 0, last, most=7, fixed=True, text=lambda value: f"{value:.0f}")
    whole = tuple(Tick(axis.percent(epoch), str(epoch)) for epoch in range(last + 1))
    return replace(axis, ticks=whole) if last <= 8 else axis


def _epoch_line(name: str, points: Sequence[tuple[float, float]], place: int, x: Axis, y: Axis) -> Line:
    marked = points if len(points) <= _MOST_MARKED else points[-1:]
    return Line(
        name=name,
        style=("first", "second")[place],
        path=path_of(points, x, y),
        markers=tuple(
            Marker(x.percent(epoch), round(100 - y.percent(value), 3), f"epoch {epoch:.0f}: {value:.4f}")
            for epoch, value in marked
        ),
        last=f"{points[-1][1]:.4f}",
    )


def path_of(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """The path of an SVG of 100 by 100 through points."""
    return "M" + "L".join(f"{x.percent(at):g} {100 - y.percent(value):g}" for at, value in points)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over equal numbers of points, so that a long run's curve stays small."""
    each = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + each] for start in range(0, len(points), each)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _idle(steps: Sequence[StepMetrics]) -> float:
    """The mean of the lines' shares, each weighted by the time that its steps took."""
    weights = [len(step.losses) / max(1e-9, step.samples_per_second) for step in steps]
    total = sum(weights)
    return sum(step.idle_share * weight for step, weight in zip(steps, weights, strict=True)) / total if total else 0


_SLACK = 1e-9
"""Of a step: so far from a tick a value lies on it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis."""

    percent: float
    """Its place, from 0 at the beginning of the axis to 100 at its end."""
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A linear axis."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]

    def percent(self, value: float) -> float:
        """Where a value lies, from 0 to 100; what is outside lies at the nearer end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)


def linear_axis(
    title: str,
    low: float,
    high: float,
    *,
    most: int = 5,
    fixed: bool = False,
    text: Callable[[float], str] | None = None,
) -> Axis:
    """An axis over a range with at most so many ticks at round numbers; `title` has the unit. Where `low` equals `high`
    it gets some length all the same. A `fixed` axis ends where the range does, instead of at round numbers; `text`
    makes the labels."""
    if high - low < max(_LEAST_LENGTH, 1e-9 * max(abs(low), abs(high))):
        high = low + max(1e-9, abs(low) * 0.1, 1.0 if low == 0 else 0)
    step = _round_step((high - low) / max(1, most - 1))
    if fixed:
        numbers = range(math.ceil(low / step - _SLACK), math.floor(high / step + _SLACK) + 1)
    else:
        numbers = range(math.floor(low / step + _SLACK), math.ceil(high / step - _SLACK) + 1)
        low, high = numbers[0] * step, numbers[-1] * step
    digits = max(0, -math.floor(math.log10(step) + _SLACK))
    label = text or (lambda value: f"{value:,.{digits}f}")
    axis = Axis(title=title, low=low, high=high, ticks=())
    ticks = tuple(Tick(axis.percent(number * step), label(number * step)) for number in numbers)
    return replace(axis, ticks=ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5, 10):
        if factor * power >= least * (1 - 1e-9):
            return factor * power
    raise AssertionError(least)
