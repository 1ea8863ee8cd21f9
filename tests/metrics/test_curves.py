"""Points of curves against scikit-learn's curves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from mple.metrics import Outputs
from mple.metrics.curves import points_for, precision_recall_points, roc_points
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


def test_many_classes_have_fewer_points() -> None:
    assert [points_for(classes) for classes in (1, 20, 100, 1000)] == [200, 200, 40, 20]
