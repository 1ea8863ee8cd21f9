"""Axes of charts: round numbers for their ticks, and where on an axis a value lies. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    """An axis over a range with ticks at round numbers.

    Args:
        title: What it measures, with its unit.
        low: Least value.
        high: Greatest value; where it equals `low` the axis gets some length all the same.
        most: Most ticks.
        fixed: The axis ends where the range does, instead of at round numbers.
        text: Makes the labels.
    """
    if high <= low:
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
    return Axis(title=title, low=low, high=high, ticks=ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5, 10):
        if factor * power >= least * (1 - 1e-9):
            return factor * power
    raise AssertionError(least)
