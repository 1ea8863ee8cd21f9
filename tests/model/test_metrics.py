"""The table of metrics: tallies that add up, what is refused, and that one more metric takes one more row, no more."""

from __future__ import annotations

import io
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mple.model.metrics import (
    METRICS,
    Metric,
    Tally,
    merged,
    require_scores,
    require_tallies,
    scores_text,
    summary_scores,
    tallies,
    values,
)
from mple.report.charts import charts, history_of
from mple.report.page import page
from mple.report.tables import print_summary
from mple.v1 import compute_pb2
from provider_node.feeding.scoring import score
from tests.support.finished_run import finished_run

CLASSES = 3
SHARE_OF_ZEROS = Metric(
    tally=lambda logits_BC, labels_B: Tally(counts=(len(labels_B), int((logits_BC.argmax(axis=1) == 0).sum()), 0)),
    value=lambda tally: tally.counts[1] / tally.counts[0],
    lengths=lambda classes: (classes, 0),
    can_be=lambda tally, samples: tally.counts[0] == samples,
    most=1.0,
)


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table with a metric that nothing else in the program has heard of."""
    monkeypatch.setitem(METRICS, "zeros", SHARE_OF_ZEROS)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_values_do_not_depend_on_how_samples_are_grouped(labels: list[int], cuts: list[int]) -> None:
    labels_B = np.array(labels)
    logits_BC = np.random.Generator(np.random.PCG64(len(labels))).normal(size=(len(labels), CLASSES))
    whole = tallies(logits_BC, labels_B)
    ends = sorted({0, len(labels), *(min(cut, len(labels)) for cut in cuts)})
    groups = [slice(low, high) for low, high in pairwise(ends)]
    parts = [tallies(logits_BC[group], labels_B[group]) for group in groups]
    assert values(merged(parts)) == values(whole), "to the last bit: runs are compared so"
    require_tallies(merged(parts), samples=len(labels), classes=CLASSES)


def test_what_was_not_scored_is_not_there() -> None:
    assert values(merged([])) == {}
    assert values(tallies(np.empty((0, CLASSES)), np.empty(0, np.int64))) == {}
    assert summary_scores({}) == {"test_accuracy": None, "test_loss": None}
    assert scores_text({}) == "test accuracy not scored"


def test_sentences_name_brief_metrics_and_files_name_all() -> None:
    scores = values({"accuracy": Tally((8, 6)), "loss": Tally((8,), (2.0,))})
    assert scores_text(scores) == "test accuracy 0.7500"
    assert summary_scores(scores) == {"test_accuracy": 0.75, "test_loss": 0.25}


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


def test_one_more_row_is_asked_of_sites_and_checked(one_more: None) -> None:
    logits_BC = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    message = compute_pb2.Logits(
        request_id=7, epoch=1, sample_ids=[0, 1], classes=CLASSES, values=logits_BC.astype("<f4").tobytes()
    )
    made = score(message, np.array([0, 1]), np.arange(CLASSES)).tallies
    assert set(made) == {"accuracy", "loss", "zeros"}
    told = {name: Tally(tuple(tally.counts), tuple(tally.sums)) for name, tally in made.items()}
    require_tallies(told, samples=2, classes=CLASSES)
    assert values(told)["zeros"] == 0.5
    with pytest.raises(ValueError, match="zeros has 3 counts"):
        require_tallies(told, samples=2, classes=4)


def test_one_more_row_is_in_summary_and_report(one_more: None, tmp_path: Path) -> None:
    summary = finished_run(tmp_path / "run", more_scores={"zeros": 0.125})
    written = json.loads((summary.folder.path / "summary.json").read_text())
    assert (written["test_zeros"], written["epochs"][0]["test_zeros"]) == (0.125, 0.125)
    html = page(summary)
    assert "test zeros 0.1250" in html
    assert ">test zeros</th>" in html
    assert "Test zeros" in [chart.title for chart in charts([("", history_of(summary.metrics))])]
    console = Console(record=True, width=200, file=io.StringIO())
    print_summary(summary, console)
    assert "test accuracy 0.7500, test zeros 0.1250 after 3 epochs" in console.export_text()
