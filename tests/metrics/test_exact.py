"""Exact values against scikit-learn on the same logits, DeLong against its definition and a published figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from benchmarks.reference_metrics import by_reference
from mple.metrics import METRICS, Outputs, probabilities, tallies, thresholds, values, values_by_class
from mple.metrics.delong import auroc, binned_auroc
from mple.metrics.exact import Exact, draws_for, exact_values
from mple.model.settings import TaskKind
from tests.support.judged import drawn

CASES = {
    "two classes": Outputs(2),
    "five classes": Outputs(5),
    "one label": Outputs(1, TaskKind.LABELS),
    "four labels": Outputs(4, TaskKind.LABELS),
}


def test_losses_are_scikit_learns_too() -> None:
    for outputs in (Outputs(5), Outputs(4, TaskKind.LABELS)):
        logits_NC, labels = drawn(outputs, 200)
        chances_NC, known = probabilities(logits_NC, outputs), labels >= 0
        due = log_loss(labels[known], chances_NC[known] if outputs.several else chances_NC)
        assert exact_values(logits_NC, labels, outputs)["loss"].value == pytest.approx(due, abs=1e-9)


def whole(found: dict[str, Exact]) -> dict[str, float | None]:
    return {name: one.value for name, one in found.items()}


@pytest.mark.parametrize("digits", [9, 0], ids=["distinct", "tied"])
@pytest.mark.parametrize("outputs", CASES.values(), ids=CASES)
def test_exact_values_are_those_of_scikit_learn(outputs: Outputs, digits: int) -> None:
    logits_NC, labels = drawn(outputs, 400, digits=digits)
    found = exact_values(logits_NC, labels, outputs)
    due, due_by_class = by_reference(logits_NC, labels, outputs)
    assert whole(found) == pytest.approx(due, abs=1e-9)
    for name, column in due_by_class.items():
        assert found[name].by_class == pytest.approx(column, abs=1e-9)
        assert found[name].interval is not None
    assert set(found) == {name for name, metric in METRICS.items() if metric.at_threshold is None}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 9]), st.floats(0.1, 50), st.floats(-10, 10))
def test_exact_values_of_any_network(seed: int, digits: int, spread: float, at: float) -> None:
    outputs = Outputs(3, TaskKind.LABELS)
    logits_NC, labels = drawn(outputs, 60, seed=seed, digits=digits, spread=spread, at=at)
    labels[:6] = np.array([[0, 1, 0], [1, 0, 1]] * 3)  # each label has both
    due, _ = by_reference(logits_NC, labels, outputs)
    found = whole(exact_values(logits_NC, labels, outputs))
    assert {name: found[name] for name in due} == pytest.approx(due, abs=1e-9)


def test_what_is_not_defined_is_none_and_never_zero() -> None:
    outputs = Outputs(3)
    logits_NC, labels = drawn(outputs, 40)
    found = exact_values(logits_NC, np.minimum(labels, 1), outputs)
    for name in ("auroc", "average_precision", "f1", "balanced_accuracy", "sensitivity"):
        by_class, intervals = found[name].by_class, found[name].intervals
        assert by_class is not None
        assert intervals is not None
        assert (by_class[2], intervals[2]) == (None, None)
        assert found[name].value == pytest.approx(np.mean([by_class[0], by_class[1]]))
    one = exact_values(logits_NC, np.zeros(40, np.int64), outputs)
    assert (one["auroc"].value, one["auroc"].interval, one["specificity"].by_class) == (
        None,
        None,
        (None, *one["specificity"].by_class[1:]),
    )  # type: ignore[index]
    for nobody in (
        exact_values(np.empty((0, 3)), np.empty(0, np.int64), outputs),
        exact_values(np.zeros((4, 2)), np.full((4, 2), -1), Outputs(2, TaskKind.LABELS)),
    ):
        assert set(whole(nobody).values()) == {None}


@pytest.mark.parametrize("outputs", CASES.values(), ids=CASES)
def test_values_at_thresholds_are_those_of_the_samples_above(outputs: Outputs) -> None:
    logits_NC, labels = drawn(outputs, 300)
    made = tallies(logits_NC, labels, outputs)
    places = thresholds(made, outputs)
    edges = outputs.edges[places]
    found = exact_values(logits_NC, labels, outputs, edges)
    pooled, by_class = values(made, outputs, places), values_by_class(made, outputs, places)
    for name in ("sensitivity", "specificity"):
        exact, binned = found[f"{name}_at_threshold"], by_class[f"{name}_at_threshold"]
        assert exact.by_class == pytest.approx(binned, abs=1e-12), "bins end at thresholds: nothing is rounded"
        assert found[name].by_class == pytest.approx(by_class[name], abs=1e-12)
        assert exact.value == pytest.approx(pooled[f"{name}_at_threshold"], abs=1e-12)


def test_intervals_hold_the_value_and_narrow_with_samples() -> None:
    outputs = Outputs(3)
    few, many = (exact_values(*drawn(outputs, samples), outputs) for samples in (100, 2500))
    for name in few:
        (low, high), value = few[name].interval or (1.0, 0.0), few[name].value
        assert value is not None
        assert low < value < high
        narrow = many[name].interval
        assert narrow is not None
        assert 3 < (high - low) / (narrow[1] - narrow[0]) < 8, "five times as narrow"
    assert exact_values(*drawn(outputs, 100), outputs) == few, "by a seed of their own"


def test_an_accuracys_interval_is_that_of_a_binomial() -> None:
    """300 right of 400: 0.75 +- 1.96 sqrt(0.75 x 0.25 / 400)."""
    labels = np.zeros(400, np.int64)
    logits_NC = np.where(np.arange(400)[:, None] < 300, [1.0, 0.0], [0.0, 1.0])
    found = exact_values(logits_NC, labels, Outputs(2))["accuracy"]
    assert found.interval == pytest.approx((0.75 - 0.0424, 0.75 + 0.0424), abs=0.006)


def test_large_sets_have_fewer_draws() -> None:
    assert [draws_for(samples, Outputs(10)) for samples in (0, 100, 5000, 10_000, 10**6, 10**7)] == [
        1000,
        1000,
        1000,
        500,
        200,
        0,
    ]


def test_very_large_sets_have_no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.metrics.exact._MOST_WORTH", 100)
    found = exact_values(*drawn(Outputs(3), 100), Outputs(3))
    assert {one.interval for one in found.values()} == {None}
    intervals = found["auroc"].intervals
    assert intervals is not None
    assert None not in intervals, "DeLong's are quick"


def naive_delong(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[float, float]:
    """Area and variance by the definition: every pair compared."""
    beats = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = beats.mean(axis=1).var(ddof=1) / len(positive) + beats.mean(axis=0).var(ddof=1) / len(negative)
    return float(beats.mean()), float(variance)


@given(
    hnp.arrays(np.float64, st.integers(2, 30), elements=st.integers(-5, 8)),
    hnp.arrays(np.float64, st.integers(2, 30), elements=st.integers(-5, 5)),
)
def test_delong_is_what_comparing_every_pair_gives(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> None:
    area, variance = naive_delong(positive, negative)
    value, interval = auroc(positive, negative)
    assert value == pytest.approx(area, abs=1e-12)
    margin = 1.959964 * variance**0.5
    assert interval == pytest.approx((max(0.0, area - margin), min(1.0, area + margin)), abs=1e-6)


def test_delong_of_a_published_table() -> None:
    """Hanley and McNeil (1982): 109 CT images rated from 1 to 5. Stata's manual gives 0.8932 (0.83295 to 0.95339)."""
    value, interval = binned_auroc(np.array([3, 2, 2, 11, 33]), np.array([33, 6, 6, 11, 2]))
    assert value == pytest.approx(0.8932, abs=5e-5)
    assert interval == pytest.approx((0.83295, 0.95339), abs=5e-6)


def test_delong_of_too_few() -> None:
    assert auroc(np.array([1.0]), np.array([])) == (None, None)
    assert auroc(np.array([1.0]), np.array([0.0, 1.0])) == (0.75, None)
