"""Scores in words, and as summaries name them."""

from collections.abc import Mapping

from mple.metrics.values import METRICS


def score_text(name: str, scores: Mapping[str, float]) -> str:
    """One score in four digits: "0.7216"."""
    return f"{scores[name]:.4f}" if name in scores else "not scored"


def scores_text(scores: Mapping[str, float], split: str = "test") -> str:
    """The scores that sentences name: "test accuracy 0.7216"."""
    return ", ".join(f"{split} {name} {score_text(name, scores)}" for name, metric in METRICS.items() if metric.brief)


def summary_scores(scores: Mapping[str, float], split: str = "test") -> dict[str, float | None]:
    """The scores of every metric as summaries name them, `test_accuracy` and so on; None where there is none."""
    return {f"{split}_{name}": scores.get(name) for name in METRICS}
