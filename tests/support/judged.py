"""Logits and labels of networks of one's choice, and what scikit-learn says of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from mple.metrics import Outputs, probabilities
from mple.metrics.outputs import scores_of, truths_of


def drawn(
    outputs: Outputs,
    samples: int,
    *,
    seed: int = 1,
    spread: float = 2.0,
    gain: float = 1.5,
    at: float = 0.0,
    digits: int = 9,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that are normal about `at`, by `gain` spreads higher where a class is true, and labels; of several labels
    a tenth is unknown. Few `digits` behind the point: ties."""
    rng = np.random.Generator(np.random.PCG64(seed))
    if outputs.several:
        labels = rng.choice([-1, 0, 1], (samples, outputs.count), p=[0.1, 0.6, 0.3])
    else:
        labels = rng.integers(0, outputs.count, samples)
    noise_NC = rng.normal(size=(samples, outputs.count))
    logits_NC = at + spread * (noise_NC + gain * (truths_of(labels, outputs) == 1))
    return np.round(logits_NC, digits).astype(np.float32).astype(np.float64), labels


def by_reference(
    logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """scikit-learn's values, and those by class, which must all be defined. Losses are scipy's: scikit-learn cuts
    probabilities off at 2^-52."""
    truths_NC, scores_NC = truths_of(labels, outputs), scores_of(logits_NC, outputs)
    chances_NC, said_N = probabilities(logits_NC, outputs), logits_NC.argmax(axis=1)
    known_NC = truths_NC >= 0
    by_class: dict[str, list[float]] = {
        name: [] for name in ("auroc", "average_precision", "f1", "balanced_accuracy", "sensitivity", "specificity")
    }
    for place in range(outputs.count):
        known = known_NC[:, place]
        true, scores = truths_NC[known, place], scores_NC[known, place]
        above = chances_NC[known, place] >= 0.5
        said = above if outputs.several else said_N == place
        by_class["auroc"].append(reference.roc_auc_score(true, scores))
        by_class["average_precision"].append(reference.average_precision_score(true, scores))
        by_class["f1"].append(reference.f1_score(true, said))
        judge = reference.balanced_accuracy_score if outputs.several else reference.recall_score
        by_class["balanced_accuracy"].append(judge(true, said))
        by_class["sensitivity"].append(reference.recall_score(true, above))
        by_class["specificity"].append(reference.recall_score(1 - true, ~above))
    if outputs.several:
        whole = {
            "accuracy": reference.accuracy_score(truths_NC[known_NC], logits_NC[known_NC] >= 0),
            "loss": -log_expit(np.where(truths_NC == 1, logits_NC, -logits_NC))[known_NC].mean(),
            "ece": _calibration_error(truths_NC[known_NC], chances_NC[known_NC]),
        }
    else:
        whole = {
            "accuracy": reference.accuracy_score(labels, said_N),
            "loss": -log_softmax(logits_NC, axis=1)[np.arange(len(labels)), labels].mean(),
            "ece": _calibration_error(labels == said_N, chances_NC.max(axis=1)),
        }
    return {**whole, **{name: float(np.mean(column)) for name, column in by_class.items()}}, by_class


def _calibration_error(true_N: NDArray[np.bool_], chances_N: NDArray[np.float64]) -> float:
    """By scikit-learn's curve, whose bins it does not weigh."""
    frequencies, means = calibration_curve(true_N, chances_N, n_bins=15)
    counts = np.histogram(chances_N, np.linspace(0, 1, 16))[0]
    return float((counts[counts > 0] * np.abs(frequencies - means)).sum() / len(chances_N))
