"""Intervals of pooled values against those of all samples together."""

from __future__ import annotations

import numpy as np
import pytest

from mple.metrics import Outputs, merged, tallies, thresholds, values, values_by_class
from mple.metrics.exact import exact_values
from mple.metrics.pooled import pooled_values
from mple.model.settings import TaskKind
from tests.support.judged import drawn


@pytest.mark.parametrize("outputs", [Outputs(3), Outputs(2, TaskKind.LABELS)], ids=["classes", "labels"])
def test_pooled_intervals_are_about_those_of_all_samples(outputs: Outputs) -> None:
    logits_NC, labels = drawn(outputs, 900)
    sums = merged(tallies(logits_NC[rows], labels[rows], outputs) for rows in np.array_split(np.arange(900), 3))
    at = thresholds(sums, outputs)
    found, exact = pooled_values(sums, outputs, at), exact_values(logits_NC, labels, outputs, outputs.edges[at])
    assert {name: one.value for name, one in found.items()} == values(sums, outputs, at)
    assert {name: one.by_class for name, one in found.items() if one.by_class} == values_by_class(sums, outputs, at)
    assert found.keys() == exact.keys()
    for name, one in found.items():
        if name == "loss":
            assert one.interval is None
            continue
        assert one.interval is not None
        assert exact[name].interval is not None
        low, high = exact[name].interval or (0, 0)
        width, value = high - low, exact[name].value or 0
        ours = one.interval[1] - one.interval[0]
        of_marginals = name not in ("accuracy", "balanced_accuracy", "f1", "ece")
        assert 0.8 * width < ours < (2.2 if of_marginals else 1.2) * width, name
        assert one.interval[0] < value < one.interval[1]
        for mine, theirs in zip(one.intervals or (), exact[name].intervals or (), strict=True):
            assert mine == pytest.approx(theirs, abs=0.25 * (theirs[1] - theirs[0]) + 0.002)  # type: ignore[index]


def test_a_class_that_nobody_has_has_no_interval() -> None:
    outputs = Outputs(3)
    logits_NC, labels = drawn(outputs, 60)
    found = pooled_values(tallies(logits_NC, np.minimum(labels, 1), outputs), outputs)
    for name in ("auroc", "average_precision", "f1", "sensitivity"):
        intervals = found[name].intervals
        assert intervals is not None
        assert [one is None for one in intervals] == [False, False, True]


def test_nothing_of_nothing() -> None:
    assert pooled_values({}, Outputs(3)) == {}
    empty = tallies(np.empty((0, 3)), np.empty(0, np.int64), Outputs(3))
    assert pooled_values(empty, Outputs(3)) == {}
