"""How the trained network does on one site's validation and test pictures: the file `scores-RUN.json` in the site's
state folder. It never leaves the site by itself: what is told to others are the tallies that the plan names.

Rates and chances are parts of 1. What is not defined, as a sensitivity without a positive, is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from mple.metrics.exact import Exact
from mple.metrics.outputs import Outputs
from mple.ranges import Between, Ranged

_Count = Annotated[int, Between(0, 10**12)]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricScore:
    """One metric; numbers are finite."""

    value: float | None
    """Over all classes."""
    interval: tuple[float, float] | None = None
    """Of 95 %."""
    by_class: Mapping[str, float | None] = field(default_factory=dict)
    """By the class's name; empty where a metric has no values by class."""
    intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = [end for one in (self.interval, *self.intervals.values()) if one is not None for end in one]
        odd = [
            one for one in (self.value, *self.by_class.values(), *ends) if one is not None and not math.isfinite(one)
        ]
        if odd:
            raise ValueError(f"a score of {odd[0]}; scores are finite")

    @classmethod
    def of(cls, exact: Exact, classes: tuple[str, ...]) -> MetricScore:
        """With the names of classes."""
        return cls(
            value=exact.value,
            interval=exact.interval,
            by_class=dict(zip(classes, exact.by_class or (), strict=exact.by_class is not None)),
            intervals=dict(zip(classes, exact.intervals or (), strict=exact.intervals is not None)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Of one class, some two hundred points of each; none where a curve is not defined."""

    roc: tuple[tuple[float, float], ...]
    """False and true positive rate."""
    precision_recall: tuple[tuple[float, float], ...]
    """Recall and precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin(Ranged):
    """What lies in one of the bins of probability: of classes that of the likeliest one, of labels that of each."""

    count: _Count
    right: _Count
    """Right answers; of labels, samples that have the label."""
    chance: float | None
    """Mean probability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """From where on a class or label is said."""

    chance: float
    """Probability; of a class that of it against all others."""
    log_odds: float
    """ln(p / (1 - p)), without rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What can be drawn of one split."""

    confusion: tuple[tuple[_Count, ...], ...] = ()
    """Of classes a row for each true one, a column for each that was said; of labels a row for each: absent and so
    said, absent but said to be there, there but said to be absent, there and so said. Empty where there is none."""
    curves: Mapping[str, Curves] = field(default_factory=dict)
    """By class."""
    calibration: tuple[CalibrationBin, ...] = ()

    def require_sound(self, outputs: Outputs, classes: tuple[str, ...]) -> None:
        """Check figures that another party may have made. Raises ValueError: they can't be of so many classes."""
        rows = {(outputs.count, 4 if outputs.several else outputs.count), (0, 0)}
        lengths = {len(row) for row in self.confusion} or {0}
        if {(len(self.confusion), length) for length in lengths} - rows:
            raise ValueError(
                f"a confusion of {len(self.confusion)} rows of {sorted(lengths)} for {outputs.count} classes"
            )
        if any(count < 0 for row in self.confusion for count in row):
            raise ValueError("a confusion with counts below 0")
        points = (at for one in self.curves.values() for points in (one.roc, one.precision_recall) for at in points)
        if not set(self.curves) <= set(classes) or not all(0 <= value <= 1 for at in points for value in at):
            raise ValueError("curves of other classes, or with points beyond 0 to 1")
        for one in self.calibration:
            if one.right > one.count or (one.chance is None) != (one.count == 0) or not 0 <= (one.chance or 0) <= 1:
                raise ValueError(f"a bin of calibration with {one.right} right of {one.count} at {one.chance}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitScores(Ranged):
    """Of one split of the site, exactly."""

    samples: _Count
    positives: Mapping[str, int]
    """By class: samples that are of it, or have the label."""
    negatives: Mapping[str, int]
    """By class: samples that are known not to be."""
    metrics: Mapping[str, MetricScore]
    draws: _Count
    """Of the bootstrap, that intervals are made of; those of `auroc` by class are DeLong's."""
    figures: Figures


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteScores(Ranged):
    """The whole file."""

    run_id: str
    plan_sha256: str
    site: str
    task: str
    classes: tuple[str, ...]
    epoch: _Count
    """After which the network was kept, counted from 1."""
    thresholds: Mapping[str, Threshold | None]
    """By class, chosen on the validation pictures of all sites (Youden); null where there were none."""
    val: SplitScores | None
    """Null where the site has no such pictures, or did not score them after that epoch."""
    test: SplitScores | None
    pooled_val: Mapping[str, MetricScore]
    """Over all sites that told the tallies for it."""
    pooled_test: Mapping[str, MetricScore]
    pooled_val_figures: Figures
    """Likewise; a class that a site left out is missing in its part of it."""
    pooled_test_figures: Figures
