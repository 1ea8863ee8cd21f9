"""What is told of predictions: of classes and of labels, as text, JSON and CSV."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from mple.model.settings import TaskKind
from mple.prediction.predictions import Predictions
from mple.prediction.texts import as_csv, as_json, as_text, score_rows
from mple.records.site_scores import Threshold

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
SAID = Predictions(
    run_id="run1",
    plan_sha256="ab" * 32,
    classes=("cyst", "normal", "=tumour"),
    task=TaskKind.CLASSES,
    names=("a.png", "b.png"),
    logits_NC=LOGITS,
    labels=None,
)
ODDS = np.array([[2.0, -1.0, 0.5], [-3.0, 1.5, -0.1]])
"""Logits of labels: probabilities of 0.8808, 0.2689, 0.6225 and 0.0474, 0.8176, 0.4750."""
FOUND = Predictions(
    run_id="run1",
    plan_sha256="ab" * 32,
    classes=("effusion", "nodule", "mass"),
    task=TaskKind.LABELS,
    names=("a.png", "b.png"),
    logits_NC=ODDS,
    labels=np.array([[1, 0, -1], [0, 1, 1]]),
    thresholds={"mass": Threshold(chance=0.4, log_odds=-0.4), "nodule": Threshold(chance=0.2, log_odds=-1.39)},
)


def test_of_classes_the_likeliest_is_said() -> None:
    assert as_text(SAID, None) == (
        "a.png  cyst    0.7000  normal  0.2000  =tumour 0.1000\nb.png  =tumour 0.5000  cyst    0.2500  normal  0.2500\n"
    )
    rows = json.loads(as_json(SAID, 1))["predictions"]
    assert [(row["class"], list(row["probabilities"])) for row in rows] == [
        ("cyst", ["cyst"]),
        ("=tumour", ["=tumour"]),
    ]
    assert "labels" not in rows[0] and "scores" not in json.loads(as_json(SAID, 1))


def test_of_labels_each_is_held_to_its_threshold() -> None:
    assert [FOUND.said(0), FOUND.said(1)] == [[0, 2, 1], [1, 2]]
    np.testing.assert_allclose(FOUND.probabilities_NC, 1 / (1 + np.exp(-ODDS)), rtol=1e-12)
    whole = json.loads(as_json(FOUND, None))
    assert whole["thresholds"] == {"effusion": 0.5, "nodule": 0.2, "mass": 0.4}
    assert [row["labels"] for row in whole["predictions"]] == [["effusion", "mass", "nodule"], ["nodule", "mass"]]
    assert whole["predictions"][0]["true"] == {"effusion": 1, "nodule": 0, "mass": None}
    lines = as_text(FOUND, None).splitlines()
    assert lines[0] == "a.png  is effusion      effusion 0.8808 +  mass     0.6225 +  nodule   0.2689 +"
    assert lines[1].endswith("effusion 0.0474")
    assert lines[2].startswith("+ counts as present")


def test_scores_are_those_of_the_known_entries() -> None:
    # at 0.5: effusion right twice, nodule right twice, mass unknown and wrong
    accuracy = FOUND.scores["accuracy"]
    assert accuracy.value == 4 / 5
    assert accuracy.interval is not None and accuracy.interval[0] <= 4 / 5 <= accuracy.interval[1]
    # at thresholds nodule is said of both pictures: its only negative is missed
    by_class = {name: one.by_class for name, one in FOUND.scores.items()}
    assert by_class["specificity"][:2] == (1.0, 1.0)
    assert by_class["specificity_at_threshold"] == (None, 0.0, None)
    assert by_class["sensitivity_at_threshold"] == (None, 1.0, 1.0)
    text = as_text(FOUND, None)
    assert "accuracy" in text and text.splitlines()[-1].startswith("over 2 pictures; intervals are of 95 %")
    assert json.loads(as_json(FOUND, None))["intervals"]["accuracy"] == list(accuracy.interval)
    headings, *_, mass = score_rows(FOUND)
    shown = dict(zip(headings, mass, strict=True))
    assert (shown["label"], shown["sensitivity"], shown["specificity"], shown["auroc"]) == ("mass", "0.0000", "-", "-")


def test_all_classes_have_bars() -> None:
    four = Predictions(
        run_id="r", plan_sha256="ab", classes=("a", "b", "c", "dd"), task=TaskKind.CLASSES, names=("x",),
        logits_NC=np.log([[0.5, 0.25, 0.125, 0.125]]), labels=np.array([1]),
    )  # fmt: skip
    assert as_text(four, 4).splitlines()[:5] == [
        "x  is b",
        "  a  0.5000 " + 20 * "#",
        "  b  0.2500 " + 10 * "#",
        "  c  0.1250 " + 5 * "#",
        "  dd 0.1250 " + 5 * "#",
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_table_for_a_spreadsheet(known: bool) -> None:
    rows = [*csv.reader(io.StringIO(as_csv(FOUND)))]
    assert rows[0] == [
        "image", "labels", "effusion", "nodule", "mass", "true effusion", "true nodule", "true mass"
    ]  # fmt: skip
    assert rows[1] == ["a.png", "effusion|mass|nodule", "0.880797", "0.268941", "0.622459", "1", "0", ""]
    said = replace(SAID, labels=np.array([0, 1]) if known else None)
    rows = [*csv.reader(io.StringIO(as_csv(said)))]
    assert rows[0] == ["image", "class", "cyst", "normal", "'=tumour", *(["true"] if known else [])]
    assert rows[2] == ["b.png", "'=tumour", "0.250000", "0.250000", "0.500000", *(["normal"] if known else [])]
