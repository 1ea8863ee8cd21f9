"""A report says what its accuracy is worth: whether test pictures show patients of the training pictures."""

import dataclasses
import json
from pathlib import Path

import pytest

from mple.data.images import PatientSplit
from mple.plan import RunPlan
from mple.report.page import page
from mple.report.plan_facts import differing, patients_sentence
from tests.support.finished_run import finished_run
from tests.support.small_plan import small_plan


def _plan(*said: PatientSplit) -> RunPlan:
    plan = small_plan()
    sites = [dataclasses.replace(site, patients=one) for site, one in zip(plan.sites, said, strict=True)]
    return dataclasses.replace(plan, sites=tuple(sites))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (PatientSplit.APART, "patients: no test picture shows a patient of the training pictures at north, "),
        (PatientSplit.SHARED, "patients: some do at north, "),
        (PatientSplit.UNKNOWN, "do not say whose they are, and nobody can know whether the score is memory"),
    ],
)
def test_what_all_sites_say_is_one_sentence(said: PatientSplit, text: str) -> None:
    plan = _plan(*[said] * len(small_plan().sites))
    assert text in patients_sentence(plan)
    assert patients_sentence(plan).endswith("nobody compares patients over sites")


def test_page_summary_and_comparison_tell_it(tmp_path: Path) -> None:
    count = len(small_plan().sites)
    mixed = _plan(*[PatientSplit.APART] * (count - 1), PatientSplit.UNKNOWN)
    summary = finished_run(tmp_path / "run", plan=mixed)
    assert patients_sentence(mixed)[1:] in page(summary)
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [site["patients"] for site in written["sites"]] == ["apart"] * (count - 1) + ["unknown"]
    assert "pictures.patients" in [name for name, _, _ in differing(mixed, small_plan())]
