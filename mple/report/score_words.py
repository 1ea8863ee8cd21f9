"""Scores in words: values, intervals, and the few that a headline has. Pure."""

import math
from collections.abc import Sequence

from mple.report.quantities import number_word
from mple.report.scores import TITLES, Lowest, SplitView, View

HEADLINE = ("accuracy", "balanced_accuracy", "auroc")
"""Metrics that the first screen has, beside the class that is found least."""
_MACRO = ("auroc",)
"""Those of them that need a word that they are means over classes."""


def title_of(metric: str) -> str:
    """How a headline names a metric."""
    return f"macro {TITLES[metric]}" if metric in _MACRO else TITLES[metric]


def number_text(value: float) -> str:
    """A score in three digits behind the point."""
    return f"{value:.3f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval's ends: "0.710 to 0.790"; empty where there is none. One without any width is none: the bootstrap of
    samples that are all alike, as 0 of 43 found, knows of no other value."""
    return "" if interval is None or interval[0] == interval[1] else f"{interval[0]:.3f} to {interval[1]:.3f}"


def value_text(view: View, metric: str, name: str | None = None) -> str:
    """A metric of all classes, or of one; or why there is none."""
    score = view.metrics.get(metric)
    value = None if score is None else score.value if name is None else score.by_class.get(name)
    return view.why(metric, name) if value is None else number_text(value)


def balanced_accuracy(view: View) -> float:
    """By which sites are put in order; those without one come last."""
    score = view.metrics.get("balanced_accuracy")
    return math.inf if score is None or score.value is None else score.value


def interval_of(view: View, metric: str, name: str | None = None) -> str:
    """Its interval in words; empty where there is none."""
    score = view.metrics.get(metric)
    return "" if score is None else interval_text(score.interval if name is None else score.intervals.get(name))


def full_text(view: View, metric: str) -> str:
    """Value and interval: "0.750 (0.710 to 0.790)"."""
    interval = interval_of(view, metric)
    return value_text(view, metric) + (f" ({interval})" if interval else "")


def lowest_text(lowest: Lowest) -> str:
    """The class that is found least: "tumour, 3 of 16"."""
    return f"{lowest.name}, {lowest.found:,} of {lowest.of:,}"


def lowest_note(lowest: Lowest) -> str:
    """What that means."""
    known = "" if lowest.every_class else " of those that sites told of"
    return f"lowest sensitivity{known}: {number_text(lowest.value)}"


def headline(view: SplitView) -> str:
    """What a split came to, the class that is found least with it: no accuracy hides it."""
    parts = [f"{view.name} {title_of(name)} {full_text(view.whole, name)}" for name in HEADLINE]
    if view.lowest is not None:
        parts.append(f"least found: {lowest_text(view.lowest)} ({lowest_note(view.lowest)})")
    return "; ".join(parts)


def short_headline(view: SplitView) -> str:
    """The same in few words, as part of a sentence."""
    accuracy = f"{view.name} accuracy {_four(view.whole)}"
    if view.lowest is None:
        return accuracy
    return f"{accuracy}, lowest sensitivity {number_text(view.lowest.value)} ({lowest_text(view.lowest)})"


def _four(view: View) -> str:
    score = view.metrics.get("accuracy")
    return view.why("accuracy") if score is None or score.value is None else f"{score.value:.4f}"


def class_columns(view: SplitView) -> tuple[tuple[str, str], ...]:
    """Metrics by class and their headings; of classes `balanced_accuracy` by class is the share that is found."""
    first = "balanced accuracy" if view.several else "sensitivity"
    names = ("auroc", "average_precision", "f1", "sensitivity", "specificity")
    at = ("sensitivity_at_threshold", "specificity_at_threshold")
    return (("balanced_accuracy", first), *((name, TITLES[name]) for name in (*names, *at)))


def some(names: Sequence[str], most: int) -> str:
    """The first of many names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {number_word(len(names) - most)} more"
