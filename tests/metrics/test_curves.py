"""Points of curves against scikit-learn's curves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from mple.metrics import Outputs
from mple.metrics.curves import (
    binned_precision_recall_points,
    binned_roc_points,
    points_for,
    precision_recall_points,
    roc_points,
)
from mple.model.settings import TaskKind
from tests.support.judged import drawn


@pytest.mark.parametrize(("samples", "digits"), [(30, 9), (2000, 9), (2000, 0)])
def test_points_lie_on_the_curves_of_scikit_learn(samples: int, digits: int) -> None:
    logits_NC, labels = drawn(Outputs(1, TaskKind.LABELS), samples, digits=digits)
    known = labels[:, 0] >= 0
    scores, true = logits_NC[known, 0], labels[known, 0] == 1
    false_rates, true_rates, _ = roc_curve(true, scores, drop_intermediate=False)
    found = roc_points(scores, true)
    due = {tuple(point) for point in np.round(np.stack([false_rates, true_rates], axis=1), 6).tolist()}
    assert set(map(tuple, found.tolist())) <= due
    assert (found[0].tolist(), found[-1].tolist()) == ([0, 0], [1, 1])
    assert len(found) == min(len(due), len(found)) <= 200
    assert samples > 100 or len(found) == len(due), "all of a short curve"
    assert np.trapezoid(found[:, 1], found[:, 0]) == pytest.approx(np.trapezoid(true_rates, false_rates), abs=1e-3)
    precisions, recalls, _ = precision_recall_curve(true, scores)
    due = {tuple(point) for point in np.round(np.stack([recalls, precisions], axis=1), 6).tolist()}
    found = precision_recall_points(scores, true)
    assert set(map(tuple, found.tolist())) <= due
    assert found[-1, 0] == 1.0
    assert (np.diff(found[:, 0]) >= 0).all()


def test_no_curve_of_one_kind_alone() -> None:
    scores = np.array([1.0, 2.0])
    assert len(roc_points(scores, np.array([True, True]))) == 0
    assert len(roc_points(scores, np.array([False, False]))) == 0
    assert len(precision_recall_points(scores, np.array([False, False]))) == 0
    assert len(roc_points(np.empty(0), np.empty(0, np.bool_))) == 0


def test_a_histogram_with_a_bin_for_each_score_has_the_same_points() -> None:
    dice = np.random.default_rng(4)
    scores, true = dice.integers(0, 12, 60), dice.random(60) < 0.4
    counts = np.stack([np.bincount(scores[true], minlength=15), np.bincount(scores[~true], minlength=15)])
    np.testing.assert_array_equal(binned_roc_points(counts), roc_points(scores.astype(float), true))
    np.testing.assert_array_equal(
        binned_precision_recall_points(counts), precision_recall_points(scores.astype(float), true)
    )
    assert len(binned_roc_points(np.zeros((2, 15), np.int64))) == 0
    assert len(binned_precision_recall_points(np.array([[0, 0], [1, 2]]))) == 0


def test_many_classes_have_fewer_points() -> None:
    assert [points_for(classes) for classes in (1, 20, 100, 1000)] == [200, 200, 40, 20]
