"""What scikit-learn, and for losses scipy, say of logits: the reference for `mple.metrics`, in tests and tables.

Legend: N samples, C classes or labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from mple.metrics import Outputs, probabilities
from mple.metrics.outputs import scores_of, truths_of

_BY_CLASS = ("auroc", "average_precision", "f1", "balanced_accuracy", "sensitivity", "specificity")


def by_reference(
    logits_NC: NDArray[np.float64],
    labels: NDArray[np.int64],
    outputs: Outputs,
    at_C: NDArray[np.float64] | None = None,
) -> tuple[dict[str, float], dict[str, list[float | None]]]:
    """Values by metric, and those by class, None where a class has no positive or no negative. Losses are scipy's:
    scikit-learn cuts probabilities off at 2^-52. `at_C` are thresholds in log-odds."""
    truths_NC, scores_NC = truths_of(labels, outputs), scores_of(logits_NC, outputs)
    chances_NC, said_N = probabilities(logits_NC, outputs), logits_NC.argmax(axis=1)
    known_NC = truths_NC >= 0
    names = _BY_CLASS if at_C is None else (*_BY_CLASS, "sensitivity_at_threshold", "specificity_at_threshold")
    by_class: dict[str, list[float | None]] = {name: [] for name in names}
    for place in range(outputs.count):
        known = known_NC[:, place]
        true, scores, chances = truths_NC[known, place], scores_NC[known, place], chances_NC[known, place]
        said = chances >= 0.5 if outputs.several else said_N == place
        found = _of_class(true, scores, chances >= 0.5, said, outputs) if 0 < true.sum() < len(true) else {}
        if found and at_C is not None and not np.isnan(at_C[place]):
            above = scores >= at_C[place]
            found["sensitivity_at_threshold"] = reference.recall_score(true, above)
            found["specificity_at_threshold"] = reference.recall_score(1 - true, ~above)
        for name, column in by_class.items():
            column.append(found.get(name))
    if outputs.several:
        whole = {
            "accuracy": reference.accuracy_score(truths_NC[known_NC], logits_NC[known_NC] >= 0),
            "loss": -log_expit(np.where(truths_NC == 1, logits_NC, -logits_NC))[known_NC].mean(),
            "ece": _calibration_error(truths_NC[known_NC] == 1, chances_NC[known_NC]),
        }
    else:
        whole = {
            "accuracy": reference.accuracy_score(labels, said_N),
            "loss": -log_softmax(logits_NC, axis=1)[np.arange(len(labels)), labels].mean(),
            "ece": _calibration_error(labels == said_N, chances_NC.max(axis=1)),
        }
    means = {name: float(np.mean([one for one in column if one is not None])) for name, column in by_class.items()}
    return {**{name: float(value) for name, value in whole.items()}, **means}, by_class


def _of_class(
    true_N: NDArray[np.int64],
    scores_N: NDArray[np.float64],
    above_N: NDArray[np.bool_],
    said_N: NDArray[np.bool_],
    outputs: Outputs,
) -> dict[str, float]:
    judge = reference.balanced_accuracy_score if outputs.several else reference.recall_score
    return {
        "auroc": reference.roc_auc_score(true_N, scores_N),
        "average_precision": reference.average_precision_score(true_N, scores_N),
        "f1": reference.f1_score(true_N, said_N),
        "balanced_accuracy": judge(true_N, said_N),
        "sensitivity": reference.recall_score(true_N, above_N),
        "specificity": reference.recall_score(1 - true_N, ~above_N),
    }


def _calibration_error(true_N: NDArray[np.bool_], chances_N: NDArray[np.float64]) -> float:
    """By scikit-learn's curve, whose bins it does not weigh."""
    frequencies, means = calibration_curve(true_N, chances_N, n_bins=15)
    counts = np.histogram(chances_N, np.linspace(0, 1, 16))[0]
    return float((counts[counts > 0] * np.abs(frequencies - means)).sum() / len(chances_N))
