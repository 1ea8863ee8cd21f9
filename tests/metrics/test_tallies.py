"""The tables of tallies and metrics: what adds up, what is refused, and that one more takes one more row, no more."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from mple.metrics import (
    METRICS,
    TALLIES,
    Metric,
    Outputs,
    Tally,
    merged,
    reordered,
    require_scores,
    require_tallies,
    scores_text,
    summary_scores,
    tallies,
    thresholds,
    values,
    values_by_class,
)
from mple.model.settings import TaskKind
from mple.report.charts import charts, history_of
from mple.report.page import page
from mple.report.tables import print_summary
from tests.support.finished_run import finished_run

CLASSES = 3
OUTPUTS = Outputs(CLASSES)
LABELS = Outputs(CLASSES, TaskKind.LABELS)
SHARE_OF_ZEROS = Metric(tally="confusion", whole=lambda counts, sums: counts[..., 0].sum(axis=-1) / counts.sum())


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table with a metric that nothing else in the program has heard of."""
    monkeypatch.setitem(METRICS, "zeros", replace(SHARE_OF_ZEROS, brief=True))  # type: ignore[arg-type]


def draw(seed: int, samples: int, outputs: Outputs = OUTPUTS) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of a weak network, some of them equal, and labels; of several some unknown."""
    rng = np.random.Generator(np.random.PCG64(seed))
    if outputs.several:
        labels = rng.integers(-1, 2, (samples, outputs.count))
        truths_NC = labels == 1
    else:
        labels = rng.integers(0, outputs.count, samples)
        truths_NC = labels[:, None] == np.arange(outputs.count)
    return np.round(rng.normal(size=truths_NC.shape) * 2 + truths_NC, 1), labels


@pytest.mark.parametrize("outputs", [OUTPUTS, LABELS], ids=["classes", "labels"])
@settings(max_examples=20)
@given(st.integers(1, 40), st.lists(st.integers(0, 40), max_size=4))
def test_values_do_not_depend_on_how_samples_are_grouped(outputs: Outputs, samples: int, cuts: list[int]) -> None:
    logits_NC, labels = draw(samples, samples, outputs)
    whole = tallies(logits_NC, labels, outputs)
    ends = sorted({0, samples, *(min(cut, samples) for cut in cuts)})
    groups = [slice(low, high) for low, high in pairwise(ends)]
    parts = [tallies(logits_NC[group], labels[group], outputs) for group in groups]
    assert merged(parts) == whole
    assert values(merged(parts), outputs) == values(whole, outputs), "to the last bit: runs are compared so"
    require_tallies(merged(parts), samples=samples, outputs=outputs)


@pytest.mark.parametrize("outputs", [OUTPUTS, LABELS], ids=["classes", "labels"])
def test_tallies_in_another_order_are_those_of_classes_in_another_order(outputs: Outputs) -> None:
    logits_NC, labels = draw(5, 50, outputs)
    logits_NC += np.random.Generator(np.random.PCG64(1)).random(logits_NC.shape) / 64  # no ties: their first class wins
    order = np.array([2, 0, 1])
    moved = labels[:, order] if outputs.several else np.argsort(order)[labels]
    there = reordered(tallies(logits_NC, labels, outputs), order, outputs)
    again = tallies(logits_NC[:, order], moved, outputs)
    assert {name: tally.counts for name, tally in there.items()} == {n: t.counts for n, t in again.items()}
    assert reordered(there, np.argsort(order), outputs) == tallies(logits_NC, labels, outputs)
    by_class = values_by_class(tallies(logits_NC, labels, outputs), outputs)
    for name, column in values_by_class(there, outputs).items():
        assert column == tuple(by_class[name][place] for place in order)


def test_tallies_by_hand() -> None:
    """Three samples of classes 0, 1, 1; the last one is taken for class 0."""
    ln2 = math.log(2)
    logits_NC = np.array([[2 * ln2, ln2, ln2], [0.0, 800.0, 0.0], [2 * ln2, ln2, ln2]])
    made = tallies(logits_NC, np.array([0, 1, 1]), OUTPUTS)
    assert made["counts"] == Tally((3, 2))
    assert made["confusion"].counts == (1, 0, 0, 1, 1, 0, 0, 0, 0)
    assert made["loss"].counts == (3,)
    assert made["loss"].sums[0] == pytest.approx(ln2 + 0 + 2 * ln2, abs=1e-6)
    scores = np.reshape(made["scores"].counts, (3, 2, OUTPUTS.bins))
    # Log-odds of class 1: ln(1/3) twice, and 800 - ln 2: sure, yet not in the last bin.
    low, high = np.searchsorted(OUTPUTS.edges, [math.log(1 / 3), 800 - ln2], side="right")
    assert scores[1, 0, low] == scores[1, 0, high] == scores[1, 1, low] == 1
    assert scores.sum(axis=(1, 2)).tolist() == [3, 3, 3]
    counts, right = np.reshape(made["calibration"].counts, (2, 15))
    assert (counts[7], right[7], counts[14], right[14]) == (2, 1, 1, 1)
    assert made["calibration"].sums[7] == pytest.approx(1.0)


def test_tallies_of_labels_by_hand() -> None:
    """Two labels of three samples, one unknown; probabilities 1/2, 3/4 and 1/5."""
    outputs = Outputs(2, TaskKind.LABELS)
    logits_NC = np.array([[0.0, math.log(3)], [math.log(1 / 4), 5.0], [-3.0, 2.0]])
    made = tallies(logits_NC, np.array([[1, 0], [1, -1], [0, 1]]), outputs)
    assert made["counts"] == Tally((5, 3))
    assert made["confusion"].counts == (1, 0, 1, 1, 0, 1, 0, 1)
    loss = math.log(2) + math.log(4) + math.log(5) + math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))
    assert made["loss"] == Tally((5,), (pytest.approx(loss, abs=1e-6),))
    assert np.reshape(made["scores"].counts, (2, 2, outputs.bins)).sum(axis=2).tolist() == [[2, 1], [1, 1]]


def test_unknown_labels_count_for_nothing() -> None:
    logits_NC, labels = draw(3, 60, LABELS)
    changed_NC = np.where(labels < 0, -logits_NC + 1, logits_NC)
    assert tallies(changed_NC, labels, LABELS) == tallies(logits_NC, labels, LABELS)


@pytest.mark.parametrize(
    ("classes", "bins", "there"), [(10, 2048, 5), (100, 1024, 5), (257, 256, 4), (4096, 32, 4), (4097, 0, 3)]
)
def test_many_classes_have_smaller_tallies(classes: int, bins: int, there: int) -> None:
    outputs = Outputs(classes)
    made = tallies(np.zeros((2, classes)), np.array([0, 1]), outputs)
    assert (outputs.bins, len(made)) == (bins, there)
    assert sum(len(tally.counts) for tally in made.values()) <= 2**18 + 2**16 + 100
    require_tallies(made, samples=2, outputs=outputs)


def test_what_was_not_scored_is_not_there() -> None:
    assert values(merged([]), OUTPUTS) == {}
    assert values(tallies(np.empty((0, CLASSES)), np.empty(0, np.int64), OUTPUTS), OUTPUTS) == {}
    assert set(summary_scores({})) == {f"test_{name}" for name in METRICS}
    assert set(summary_scores({}).values()) == {None}
    assert scores_text({}) == "test accuracy not scored"
    assert thresholds({}, OUTPUTS).tolist() == [-1, -1, -1]


def test_sentences_name_brief_metrics_and_files_name_all() -> None:
    scores = values({"counts": Tally((8, 6)), "loss": Tally((8,), (2.0,))}, OUTPUTS)
    assert scores_text(scores, "validation") == "validation accuracy 0.7500"
    assert {name: value for name, value in summary_scores(scores, "val").items() if value is not None} == {
        "val_accuracy": 0.75,
        "val_loss": 0.25,
    }


@pytest.mark.parametrize(
    ("name", "changed", "text"),
    [
        ("counts", Tally((3, 4)), "tally of counts over 3 samples"),
        ("counts", Tally((2, 1)), "tally of counts"),
        ("counts", Tally((3, -1)), "tally of counts"),
        ("counts", Tally((3,)), r"counts has 1 counts and 0 sums; due are \(2, 0\)"),
        ("loss", Tally((3,), (-0.1,)), "tally of loss"),
        ("loss", Tally((3,), (math.nan,)), "tally of loss"),
        ("loss", Tally((3,), (1e300,)), "tally of loss"),
        ("confusion", Tally((4, *[0] * 8)), "tally of confusion"),
        ("confusion", Tally((2**62, 2**62, *[0] * 7)), "tally of confusion"),
        ("scores", Tally((4, *[0] * (6 * 2048 - 1))), "tally of scores"),
        ("calibration", Tally((3, *[0] * 29), (3.1, *[0.0] * 14)), "tally of calibration"),
        ("calibration", Tally((3, *[0] * 14, 4, *[0] * 14), (1.0, *[0.0] * 14)), "tally of calibration"),
        ("calibration", Tally((2, *[0] * 29), (1.0, *[0.0] * 14)), "tally of calibration"),
        ("sharpness", Tally((3,)), "sharpness"),
    ],
)
def test_a_tally_that_cannot_be_is_refused_by_its_name(name: str, changed: Tally, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        require_tallies({name: changed}, samples=3, outputs=OUTPUTS)


def test_a_tally_that_the_plan_does_not_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'loss'; due are counts, scores"):
        require_tallies({"loss": Tally((3,), (1.0,))}, samples=3, outputs=OUTPUTS, due=("counts", "scores"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 1.01),
        ("accuracy", -0.01),
        ("accuracy", math.nan),
        ("loss", math.inf),
        ("loss", -1.0),
        ("sharpness", 0.5),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        require_scores({"loss": 0.5, name: value})


def test_every_metric_is_made_of_a_tally_in_one_way() -> None:
    for metric in METRICS.values():
        assert metric.tally in TALLIES
        assert [metric.by_class, metric.at_threshold, metric.whole].count(None) == 2


def test_one_more_row_has_a_value_and_is_checked(one_more: None) -> None:
    made = tallies(np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0]]), np.array([0, 1]), OUTPUTS)
    assert values(made, OUTPUTS)["zeros"] == 0.5
    with pytest.raises(ValueError, match="zeros = 1"):
        require_scores({"zeros": 1.5})


def test_one_more_row_is_in_summary_and_report(one_more: None, tmp_path: Path) -> None:
    made = {"confusion": Tally((1, 0, 0, 0, 3, 0, 0, 0, 4))}
    summary = finished_run(tmp_path / "run", more_scores={"zeros": 0.25}, more_tallies=made)
    written = json.loads((summary.folder.path / "summary.json").read_text())
    assert (written["test_zeros"], written["epochs"][0]["val_zeros"]) == (0.125, 0.25)
    html = page(summary)
    assert ">validation zeros</th>" in html
    assert "Validation zeros" in [chart.title for chart in charts([("", history_of(summary.metrics))])]
    console = Console(record=True, width=200, file=io.StringIO())
    print_summary(summary, console)
    table = [line.split() for line in console.export_text().splitlines()]
    assert ["zeros", "0.125"] in [line[:2] for line in table]
