"""What a report says of a network's scores, against what was put into the run's files, and scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

from mple.disk.json_records import read_record, write_record
from mple.metrics import MetricSettings, Outputs
from mple.metrics.outputs import scores_of
from mple.model.settings import TaskKind
from mple.plan import RunPlan, TaskSettings, TrainingSettings
from mple.records.run_folder import RunFolderError
from mple.records.site_scores import CalibrationBin, Curves, Figures, MetricScore, SiteScores
from mple.report import Summary, print_summary, read_summary
from mple.report.charts import charts, history_of
from mple.report.page import page
from mple.report.run_facts import source_commit
from mple.report.score_charts import roc_chart
from mple.report.score_words import short_headline
from mple.report.scores import NOT_DEFINED, NOT_PLANNED, TEST, TITLES, VAL, WITHHELD, View
from provider_node.feeding.score_record import split_scores
from tests.support.finished_run import EPOCHS, finished_run
from tests.support.judged import drawn
from tests.support.scored_run import Judged, scored_run
from tests.support.small_plan import CLASSES, small_plan

SIZES = {"north": (5, 60), "south": (4, 40)}
VALS = {"north": 30, "south": 30}
PLAN = small_plan(sizes=SIZES, vals=VALS, training=TrainingSettings(epochs=EPOCHS))
LABELS = replace(PLAN, task=TaskSettings(kind=TaskKind.LABELS))


def run_of(folder: Path, plan: RunPlan = PLAN, **more: object) -> tuple[Summary, dict[str, Judged]]:
    finished_run(folder, plan=plan)
    return scored_run(folder, plan, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, dict[str, Judged]]:
    return run_of(tmp_path_factory.mktemp("scores") / "run")


def said(summary: Summary, width: int) -> str:
    screen = StringIO()
    print_summary(summary, Console(file=screen, width=width))
    return screen.getvalue()


def test_all_sites_and_each_are_as_scikit_learn_says(run: tuple[Summary, dict[str, Judged]]) -> None:
    summary, tests = run
    view = summary.views[TEST]
    logits, labels = (np.concatenate(parts) for parts in zip(*tests.values(), strict=True))
    assert view.whole.metrics["accuracy"].value == accuracy_score(labels, logits.argmax(axis=1))
    np.testing.assert_array_equal(view.whole.figures.confusion, confusion_matrix(labels, logits.argmax(axis=1)))
    for one in view.sites:
        own_logits, own_labels = tests[one.name]
        areas = one.metrics["auroc"].by_class
        for place, name in enumerate(CLASSES):
            due = roc_auc_score(own_labels == place, scores_of(own_logits, PLAN.outputs)[:, place])
            assert areas[name] == pytest.approx(due, abs=1e-9)
            pooled = roc_auc_score(labels == place, scores_of(logits, PLAN.outputs)[:, place])
            assert view.whole.metrics["auroc"].by_class[name] == pytest.approx(pooled, abs=2e-3)
    recalls = recall_score(labels, logits.argmax(axis=1), average=None)
    assert view.lowest is not None
    assert view.lowest.name == CLASSES[recalls.argmin()]
    assert view.lowest.value == pytest.approx(recalls.min())
    assert summary.to_json()["scores"]["test"]["sites"]["north"]["samples"] == 60  # type: ignore[index]


def test_an_accuracy_does_not_hide_the_class_that_is_found_least(tmp_path: Path) -> None:
    """As in the run that this was made for: nearly all of two classes right, three of sixteen of the third."""
    sizes = {"north": (5, 116)}
    plan = replace(small_plan(sizes=sizes, training=TrainingSettings(epochs=EPOCHS)), run_id="hides")
    labels = np.repeat([0, 1, 2], [50, 50, 16])
    logits = 4.0 * np.eye(3)[np.repeat([0, 1, 0, 2], [50, 50, 13, 3])]
    summary, _ = run_of(tmp_path / "run", plan, judged={"north": (logits, labels)})
    view = summary.views[TEST]
    assert view.lowest is not None
    assert (view.lowest.name, view.lowest.found, view.lowest.of) == ("tumour", 3, 16)
    assert "validation pictures chose" not in page(summary), "it has none"
    words = "test accuracy 0.8879, lowest sensitivity 0.188 (tumour, 3 of 16)"
    assert short_headline(view) == words
    assert words in page(summary)
    assert "least found: tumour, 3 of 16" in said(summary, 200)
    written = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert written["scores"]["test"]["lowest_sensitivity"]["name"] == "tumour"


def test_what_a_site_withholds_is_said_and_not_made_up(tmp_path: Path) -> None:
    few = np.array([0] * 30 + [1] * 27 + [2] * 3)
    logits = 2.0 * np.eye(3)[few] + np.random.default_rng(3).normal(size=(60, 3))
    south = (np.zeros((2, 3)), np.array([0, 1]))
    sizes = {"north": (5, 60), "south": (4, 2)}
    plan = small_plan(sizes=sizes, vals=VALS, training=TrainingSettings(epochs=EPOCHS))
    summary, _ = run_of(tmp_path / "run", plan, least=5, judged={"north": (logits, few), "south": south})
    view = summary.views[TEST]
    assert view.notes == (
        "left out by north of what it tells by class of its test pictures: 2 classes, under its least count or so that "
        "no difference tells one that is",
        "withheld by south of its test pictures, too few: counts, loss, confusion, scores, calibration",
    )
    assert view.whole.samples == 60, "values of all sites are without those of the south"
    assert view.whole.why("auroc", "tumour") == WITHHELD
    assert "tumour" in view.whole.metrics["auroc"].by_class
    assert view.whole.metrics["auroc"].by_class["tumour"] is None
    assert view.whole.positives["tumour"] == 3, "the sites' own files are at hand and know it"
    text = page(summary)
    assert "Withheld by south of its test pictures" in text
    assert WITHHELD in text
    # Of the folder without the sites' files, nobody knows the classes' names.
    bare, _ = run_of(tmp_path / "bare", plan, least=5, files=(), judged={"north": (logits, few), "south": south})
    assert bare.views[TEST].lowest is None
    assert bare.views[TEST].whole.metrics["accuracy"] == view.whole.metrics["accuracy"]
    assert "own files, which of north, south is not at hand" in " ".join(bare.views[TEST].notes)
    assert "least found class" in page(bare)
    assert "not told" in page(bare)


def test_a_site_without_its_file_has_the_values_of_its_tallies(tmp_path: Path) -> None:
    summary, tests = run_of(tmp_path / "run", files=("south",))
    north, south = summary.views[TEST].sites
    assert (north.exact, south.exact) == (False, True)
    logits, labels = tests["north"]
    assert north.metrics["accuracy"].value == accuracy_score(labels, logits.argmax(axis=1))
    assert (north.samples, dict(north.metrics["auroc"].by_class)) == (60, {})
    whole = summary.views[TEST].whole
    assert sum(map(sum, whole.figures.confusion)) == 100, "from what all sites told"
    assert roc_chart(whole) is not None


def test_what_is_not_defined_and_what_the_plan_leaves_out(tmp_path: Path) -> None:
    plan = replace(PLAN, metrics=MetricSettings(tallies=("counts", "loss", "scores")))
    dice = np.random.default_rng(1)
    judged = {site: (dice.normal(size=(test, 3)), np.arange(test) % 2) for site, (_, test) in SIZES.items()}
    summary, _ = run_of(tmp_path / "run", plan, judged=judged)
    view = summary.views[TEST]
    assert view.whole.why("f1") == NOT_PLANNED
    assert view.whole.why("auroc", "tumour") == NOT_DEFINED
    assert view.sites[0].why("auroc", "tumour") == NOT_DEFINED
    assert view.sites[0].metrics["f1"].value is not None
    assert NOT_PLANNED in said(summary, 100)


def test_several_labels(tmp_path: Path) -> None:
    summary, tests = run_of(tmp_path / "run", LABELS)
    view = summary.views[TEST]
    logits, labels = (np.concatenate(parts) for parts in zip(*tests.values(), strict=True))
    shares = {name: float((logits[labels[:, place] == 1, place] >= 0).mean()) for place, name in enumerate(CLASSES)}
    assert view.lowest is not None
    assert (view.lowest.name, view.lowest.value) == (min(shares, key=lambda name: shares[name]), min(shares.values()))
    text = page(summary)
    assert "said at probability 0.5" in text
    assert "share that has the label" in text


def test_a_file_of_another_run_is_refused(run: tuple[Summary, dict[str, Judged]], tmp_path: Path) -> None:
    run_of(tmp_path / "run")
    path = next((tmp_path / "run").glob("nodes/south/state/scores-*.json"))
    write_record(path, replace(read_record(SiteScores, path), epoch=1))
    with pytest.raises(RunFolderError, match="of another epoch than the run"):
        read_summary(tmp_path / "run")
    strange = Figures(confusion=((1, 2), (3, 4)))
    write_record(path, replace(read_record(SiteScores, path), epoch=EPOCHS, pooled_test_figures=strange))
    with pytest.raises(RunFolderError, match=r"a confusion of 2 rows .*, which no site writes"):
        read_summary(tmp_path / "run")
    write_record(path, replace(read_record(SiteScores, path), pooled_test_figures=Figures(), pooled_test={}))
    with pytest.raises(RunFolderError, match="differ in what all sites come to"):
        read_summary(tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"confusion": ((1, 2), (3, 4))}, "a confusion of 2 rows"),
        ({"confusion": ((1, 2, 3), (3, 4, -5), (0, 0, 0))}, "below 0"),
        ({"curves": {"cyst": Curves(roc=((0.0, float("nan")),), precision_recall=())}}, "points beyond"),
        ({"curves": {"other": Curves(roc=(), precision_recall=())}}, "other classes"),
        ({"calibration": (CalibrationBin(count=1, right=2, chance=0.5),)}, "2 right of 1"),
        ({"calibration": (CalibrationBin(count=1, right=1, chance=float("inf")),)}, "1 right of 1 at inf"),
    ],
)
def test_figures_that_no_site_writes_are_refused(
    run: tuple[Summary, dict[str, Judged]], changed: dict[str, object], words: str
) -> None:
    figures = run[0].views[TEST].sites[0].figures
    figures.require_sound(PLAN.outputs, CLASSES)
    with pytest.raises(ValueError, match=words):
        replace(figures, **changed).require_sound(PLAN.outputs, CLASSES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scores are finite"):
        MetricScore(value=0.5, by_class={"cyst": float("nan")})


def test_tables_fit_their_console(run: tuple[Summary, dict[str, Judged]], tmp_path: Path) -> None:
    long = small_plan(
        sizes={f"hospital-of-the-town-{place}": (4, 20) for place in range(5)},
        vals={"hospital-of-the-town-0": 5},
        classes=("a class whose name is longer than most names of classes", "normal", "tumour"),
        training=TrainingSettings(epochs=EPOCHS),
    )
    for summary in (run[0], run_of(tmp_path / "run", long)[0]):
        for width in (60, 80, 120):
            lines = said(summary, width).split("all sites: ")[0].splitlines()
            tables = [line for line in lines if not line.startswith(("sizes in MB", "of all sites"))]
            assert max(map(len, tables)) <= width
            assert not any("…" in line for line in tables if "longer" not in line and "a class" not in line)
            for site in summary.plan.sites:
                assert any(site.name in line for line in tables)


def test_ten_curves_are_drawn_and_the_others_named() -> None:
    names = tuple(f"class {place}" for place in range(13))
    logits, labels = drawn(Outputs(13), 400)
    scores = split_scores(logits.astype(np.float32), labels, Outputs(13), names, np.full(13, np.nan))
    view = View(
        name="north",
        samples=400,
        exact=True,
        metrics=scores.metrics,
        figures=scores.figures,
        positives=scores.positives,
        missing={},
    )
    chart = roc_chart(view)
    assert chart is not None
    assert len(chart.chart.lines) == 1 + 10
    areas = [float(line.last) for line in chart.chart.lines[1:]]
    assert areas == sorted(areas)
    drawn_names = {line.name for line in chart.chart.lines}
    assert all(name in drawn_names or name in chart.left_out for name in names)


def test_the_kept_epoch_is_marked_and_the_run_is_dated(run: tuple[Summary, dict[str, Judged]]) -> None:
    summary, _ = run
    for chart in charts([("", history_of(summary.metrics))], kept_epoch=2):
        assert chart.mark == pytest.approx(100 * 2 / 3, abs=1e-3)
        assert "epoch 2 is kept" in chart.description
    assert (summary.facts.began, summary.facts.ended) == ("2026-09-21T14:13:20Z", "2026-09-21T14:14:00Z")
    assert summary.facts.when == "2026-09-21 14:13 to 14:14 UTC"
    assert summary.facts.seconds == pytest.approx(40)
    assert read_summary(summary.folder.path).facts == summary.facts
    text = page(summary)
    assert "mple simulate three.toml --out run" in text
    assert all(TITLES[name] in text for name in ("auroc", "ece", "average_precision"))
    assert set(summary.views) == {VAL, TEST}
    assert "validation pictures chose it" in text


def test_the_commit_is_that_of_a_checkout(tmp_path: Path) -> None:
    assert source_commit(tmp_path) == "", "installed, not from a checkout"
    (tmp_path / ".git").mkdir()
    assert source_commit(tmp_path) == "", "git can't say"
