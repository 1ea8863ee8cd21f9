"""Scores in words, and as summaries name them."""

from collections.abc import Mapping

from mple.metrics.values import METRICS

_BRIEF = tuple(name for name, metric in METRICS.items() if metric.brief and name != "loss")


def score_text(name: str, scores: Mapping[str, float]) -> str:
    """One score in four digits: "0.7216"."""
    return f"{scores[name]:.4f}" if name in scores else "not scored"


def scores_text(scores: Mapping[str, float], split: str = "test") -> str:
    """The scores that sentences name: "test accuracy 0.7216"."""
    return ", ".join(f"{split} {name} {score_text(name, scores)}" for name, metric in METRICS.items() if metric.brief)


def epoch_text(loss: float, scores: Mapping[str, float]) -> str:
    """An epoch's loss and what validation says, if there is any: "loss 0.4213, validation loss 0.6105, validation
    accuracy 0.7216"."""
    said = [f"validation {name} {scores[name]:.4f}" for name in ("loss", *_BRIEF) if name in scores]
    return ", ".join([f"loss {loss:.4f}", *said])


def summary_scores(scores: Mapping[str, float], split: str = "test") -> dict[str, float | None]:
    """The scores of every metric as summaries name them, `test_accuracy` and so on; None where there is none."""
    return {f"{split}_{name}": scores.get(name) for name in METRICS}
