"""Pooled values, made of tallies, against scikit-learn's on all samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.reference_metrics import by_reference
from mple.metrics import Outputs, merged, tallies, thresholds, values, values_by_class
from mple.metrics.outputs import scores_of
from mple.model.settings import TaskKind
from tests.support.judged import drawn

EXACT = ("accuracy", "balanced_accuracy", "f1", "sensitivity", "specificity")
NETWORKS = {
    "weak": {"spread": 0.3, "gain": 0.5},
    "hardly trained": {"spread": 0.05, "gain": 0.3},
    "usual": {"spread": 2.0, "gain": 1.5},
    "sure": {"spread": 10.0, "gain": 3.0},
    "sure and wrong": {"spread": 40.0, "gain": 0.5},
    "beyond all measure": {"spread": 200.0, "gain": 1.0},
    "of rare labels": {"spread": 0.2, "gain": 1.0, "at": -4.0},
    "far out": {"spread": 3.0, "gain": 1.0, "at": 30.0},
}
TASKS = {"classes": Outputs(7), "labels": Outputs(3, TaskKind.LABELS)}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("task", TASKS)
def test_pooled_values_are_those_of_scikit_learn(task: str, network: str) -> None:
    outputs = TASKS[task]
    logits_NC, labels = drawn(outputs, 3000, **NETWORKS[network])
    sites = np.array_split(np.arange(3000), 4)
    pooled = merged(tallies(logits_NC[rows], labels[rows], outputs) for rows in sites)
    found, by_class = values(pooled, outputs), values_by_class(pooled, outputs)
    due, due_by_class = by_reference(logits_NC, labels, outputs)
    assert {name: found[name] for name in EXACT} == pytest.approx({name: due[name] for name in EXACT}, abs=1e-12)
    assert found["ece"] == pytest.approx(due["ece"], abs=1e-7)
    assert found["loss"] == pytest.approx(due["loss"], abs=1e-7)
    for name, within in (("auroc", 0.002), ("average_precision", 0.003)):
        assert by_class[name] == pytest.approx(due_by_class[name], abs=within)
        assert found[name] == pytest.approx(due[name], abs=within)


@pytest.mark.parametrize("spread", [0.5, 2.5, 10.0])
def test_pooled_areas_of_a_hundred_classes(spread: float) -> None:
    outputs = Outputs(100)
    logits_NC, labels = drawn(outputs, 2000, spread=spread)
    scores_NC = scores_of(logits_NC, outputs)
    due = [roc_auc_score(labels == place, scores_NC[:, place]) for place in range(100)]
    found = values(tallies(logits_NC, labels, outputs, ("scores",)), outputs)["auroc"]
    assert found == pytest.approx(np.mean(due), abs=0.002)


def test_a_class_without_positives_has_no_value() -> None:
    outputs = Outputs(3)
    logits_NC, labels = drawn(outputs, 50)
    made = tallies(logits_NC, np.minimum(labels, 1), outputs)
    found, by_class = values(made, outputs, thresholds(made, outputs)), values_by_class(made, outputs)
    for name in ("auroc", "average_precision", "f1", "balanced_accuracy", "sensitivity"):
        assert by_class[name][2] is None
        assert found[name] == pytest.approx(np.mean(by_class[name][:2]))  # type: ignore[arg-type]
    assert by_class["specificity"][2] is not None
    assert thresholds(made, outputs)[2] == -1
    nothing = tallies(logits_NC, np.zeros(50, np.int64), outputs)
    assert not {"auroc"} & set(values(nothing, outputs))


def test_a_threshold_is_the_best_of_all() -> None:
    outputs = Outputs(1, TaskKind.LABELS)
    logits_NC, labels = drawn(outputs, 500, at=-3.0)
    made = tallies(logits_NC, labels, outputs)
    (place,) = thresholds(made, outputs)
    found = values(made, outputs, np.array([place]))
    bins = np.searchsorted(outputs.edges, logits_NC[:, 0], side="right")[labels[:, 0] >= 0]
    false, true, _ = roc_curve(labels[labels[:, 0] >= 0, 0], bins)
    gain = found["sensitivity_at_threshold"] + found["specificity_at_threshold"] - 1
    assert gain == pytest.approx((true - false).max(), abs=1e-12)
    assert gain > found["sensitivity"] + found["specificity"] - 1


def test_of_thresholds_as_good_the_one_nearest_to_one_half() -> None:
    """Positives at 3, negatives at -2: every edge between them tells all apart."""
    outputs = Outputs(1, TaskKind.LABELS)
    made = tallies(np.array([[3.0], [-2.0]]), np.array([[1], [0]]), outputs)
    assert outputs.edges[thresholds(made, outputs)].tolist() == [0.0]
    made = tallies(np.array([[-1.0], [-2.0]]), np.array([[1], [0]]), outputs)
    (edge,) = outputs.edges[thresholds(made, outputs)]
    assert -1.05 < edge <= -1.0


def test_without_thresholds_metrics_at_them_have_no_value() -> None:
    outputs = Outputs(3)
    made = tallies(*drawn(outputs, 50), outputs)
    assert "sensitivity_at_threshold" not in values(made, outputs)
    assert "sensitivity_at_threshold" in values(made, outputs, thresholds(made, outputs))


def test_a_metric_without_its_tally_has_no_value() -> None:
    outputs = Outputs(3)
    made = tallies(*drawn(outputs, 50), outputs, ("counts", "confusion"))
    assert set(values(made, outputs)) == {"accuracy", "balanced_accuracy", "f1"}
    assert set(values_by_class(made, outputs)) == {"balanced_accuracy", "f1"}
