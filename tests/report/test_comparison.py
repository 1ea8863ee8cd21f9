"""Two runs side by side: the numbers, the settings that differ, the terminal's tables and the page."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.plan import ClassWeights, RunChoices, TaskSettings, TrainingSettings, WireSettings
from mple.report.comparison import Comparison, compare, print_comparison, write_comparison_page
from mple.report.plan_facts import differing, plan_facts
from mple.report.scores import split_views
from tests.support.finished_run import finished_run
from tests.support.small_plan import small_plan


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    plan = small_plan(training=TrainingSettings(epochs=3))
    other = dataclasses.replace(plan, run_id="other-run", wire=WireSettings(codec="f16"))
    first = finished_run(folder / "fine", plan=plan)
    return compare(first, finished_run(folder / "coarse", plan=other, accuracy=0.7, data_bytes=100))


def said(comparison: Comparison) -> str:
    screen = StringIO()
    print_comparison(comparison, Console(file=screen, width=160))
    return screen.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_differences_are_the_second_less_the_first(comparison: Comparison) -> None:
    rows = {row.name: row for _, group in comparison.groups for row in group}
    data = rows["morphed pictures"]
    assert (data.first, data.second) == (2 * 300, 2 * 200)
    assert data.difference.replace("\N{NO-BREAK SPACE}", " ") == "−200 B (−33.3 %)"
    assert rows["augmented layer"].difference.replace("\N{NO-BREAK SPACE}", " ") == "0 B"
    assert rows["test accuracy"].values == ("0.7500", "0.7000")
    assert rows["test accuracy"].difference == "−0.0500"
    assert rows["training"].difference == "0.0 s"


def test_what_one_run_lacks_has_no_difference(tmp_path: Path) -> None:
    first, second = finished_run(tmp_path / "a"), finished_run(tmp_path / "b")
    unscored = dataclasses.replace(second.judged, test={})
    views = split_views(second.folder, second.plan, unscored)
    other = dataclasses.replace(second, judged=unscored, views=views)
    rows = {row.name: row for _, group in compare(first, other).groups for row in group}
    assert rows["test accuracy"].values == ("0.7500", "none")
    assert rows["test accuracy"].difference == ""


def test_only_settings_that_differ_are_named(comparison: Comparison) -> None:
    assert comparison.settings == (("wire.codec", "q6", "f16"),)
    assert differing(small_plan(), dataclasses.replace(small_plan(), run_id="another")) == []


def test_every_section_of_a_run_is_told() -> None:
    """One that is added is, too: two runs that differ in it are never said to be alike."""
    assert {section.name for section in dataclasses.fields(RunChoices)} <= set(plan_facts(small_plan()))
    other = small_plan(task=TaskSettings(class_weights=ClassWeights.INVERSE))
    assert differing(small_plan(), other) == [("task.class_weights", "none", "inverse")]


def test_the_sentence_and_the_tables(comparison: Comparison) -> None:
    text = said(comparison)
    assert "coarse against fine: −" in text
    assert "test accuracy −5.00 points; training time 0.00 %; another network" in text
    assert "wire.codec" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_equal_networks_are_said_to_be_equal(tmp_path: Path) -> None:
    runs = finished_run(tmp_path / "a"), finished_run(tmp_path / "b")
    assert "the same network, bit for bit" in compare(*runs).verdict


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    first, second = finished_run(tmp_path / "a" / "run"), finished_run(tmp_path / "b" / "run")
    assert compare(first, second).names == (str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run"))


def test_the_page_has_both_names_and_both_curves(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison_page(comparison, tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "fine, last <b>" in text
    assert "coarse, last <b>" in text
    assert "<script" not in text
