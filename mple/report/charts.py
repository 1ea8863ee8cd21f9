"""Loss and accuracy as curves, of one run or of two over each other, from the lines of `metrics.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mple.report.axes import Axis, Tick, linear_axis

_MOST_POINTS = 300
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
    """The last value in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Curves over common axes."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]

    @property
    def description(self) -> str:
        """What somebody who can't see it needs to know."""
        ends = "; ".join(f"{line.name} ends at {line.last}" for line in self.lines)
        return f"{self.title} by {self.x.title}: {ends}"


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """How training went: places on the common axis are epochs."""

    losses: tuple[tuple[float, float], ...]
    """Of every step: epochs done, loss."""
    epoch_losses: tuple[tuple[float, float], ...]
    accuracies: tuple[tuple[float, float], ...]
    """Of scored epochs only."""
    idle_shares: tuple[float, ...]
    """Part of each epoch in which the trainer waited for samples."""

    @property
    def epochs(self) -> int:
        """That were finished."""
        return len(self.epoch_losses)


def read_history(metrics: Path) -> History:
    """The history that a `metrics.jsonl` tells."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    losses: list[tuple[float, float]] = []
    for line in steps:
        first = line["step"] - len(line["losses"]) + 1
        for step, loss in enumerate(line["losses"], first):
            losses.append((line["epoch"] - 1 + step / line["steps"], loss))
    return History(
        losses=tuple(losses),
        epoch_losses=tuple((line["epoch"], line["loss"]) for line in epochs),
        accuracies=tuple(
            (line["epoch"], line["test_accuracy"]) for line in epochs if line["test_accuracy"] is not None
        ),
        idle_shares=tuple(_idle([step for step in steps if step["epoch"] == line["epoch"]]) for line in epochs),
    )


def loss_chart(histories: Sequence[tuple[str, History]]) -> LineChart | None:
    """Losses of one run with every step, or of several runs by epoch; None when there are none.

    Args:
        histories: Names of the runs, empty for a single one, and their histories.
    """
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
            Line(name=name, style="faint", path=_path(thinned, x, y), last=f"{histories[0][1].losses[-1][1]:.4f}")
        )
    for place, (name, history) in enumerate(histories):
        lines.append(_epoch_line(name or "mean of an epoch", history.epoch_losses, place, x, y))
    return LineChart(title="Training loss", x=x, y=y, lines=tuple(lines))


def accuracy_chart(histories: Sequence[tuple[str, History]]) -> LineChart | None:
    """Test accuracy after each epoch; None when no epoch was scored."""
    values = [value for _, history in histories for _, value in history.accuracies]
    if not values:
        return None
    x = _epoch_axis(histories)
    y = linear_axis("test accuracy", 0.0, 1.0, most=6)
    lines = [
        _epoch_line(name or "after an epoch", history.accuracies, place, x, y)
        for place, (name, history) in enumerate(histories)
        if history.accuracies
    ]
    return LineChart(title="Test accuracy", x=x, y=y, lines=tuple(lines))


def _epoch_axis(histories: Sequence[tuple[str, History]]) -> Axis:
    last = max(history.epochs for _, history in histories) or 1
    axis = linear_axis("epoch", 0, last, most=7, fixed=True, text=lambda value: f"{value:.0f}")
    whole = tuple(Tick(axis.percent(epoch), str(epoch)) for epoch in range(last + 1))
    return Axis(title="epoch", low=0, high=last, ticks=whole if last <= 8 else axis.ticks)


def _epoch_line(name: str, points: Sequence[tuple[float, float]], place: int, x: Axis, y: Axis) -> Line:
    marked = points if len(points) <= _MOST_MARKED else points[-1:]
    return Line(
        name=name,
        style=("first", "second")[place],
        path=_path(points, x, y),
        markers=tuple(
            Marker(x.percent(epoch), round(100 - y.percent(value), 3), f"epoch {epoch:.0f}: {value:.4f}")
            for epoch, value in marked
        ),
        last=f"{points[-1][1]:.4f}",
    )


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{x.percent(at):g} {100 - y.percent(value):g}" for at, value in points)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over equal numbers of points, so that a long run's curve stays small."""
    each = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + each] for start in range(0, len(points), each)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _idle(steps: Sequence[dict[str, float]]) -> float:
    """The mean of the lines' shares, each weighted by the time that its steps took."""
    weights = [len(step["losses"]) / max(1e-9, step["samples_per_second"]) for step in steps]  # type: ignore[arg-type]
    total = sum(weights)
    return sum(step["idle_share"] * weight for step, weight in zip(steps, weights, strict=True)) / total if total else 0
