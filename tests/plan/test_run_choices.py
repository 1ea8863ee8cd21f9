"""A run's choices are compared and handed on as a whole, so that none of their sections can be forgotten."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coordinator.plan_maker import make_plan
from mple.metrics import MetricSettings
from mple.plan import (
    AbsenceSettings,
    ClassWeights,
    CoordinatorSettings,
    DeliverTo,
    DeliverySettings,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    PrivacyMode,
    PrivacySettings,
    RunChoices,
    RunPlan,
    RunSettings,
    TaskSettings,
    TrainingSettings,
    WireSettings,
    changed_sections,
    choices_of,
    read_settings,
)
from mple.records.run_folder import COORDINATOR
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import SimulationSettings
from tests.support.small_plan import small_plan
from tests.support.small_run import SITES, site_profile

SECTIONS = [section.name for section in dataclasses.fields(RunChoices)]
OTHERS = RunChoices(
    morph=MorphSettings(preset="distinct", tile=4),
    wire=WireSettings(releases=7),
    model=ModelSettings(width=0.125, dropout=0.5),
    task=TaskSettings(class_weights=ClassWeights.INVERSE),
    training=TrainingSettings(seed=8),
    metrics=MetricSettings(tallies=("counts", "loss")),
    normalisation=NormalisationSettings(mean=(0.25,)),
    absence=AbsenceSettings(patience_s=7.0),
    privacy=PrivacySettings(mode=PrivacyMode.NOISE),
    delivery=DeliverySettings(to=DeliverTo.NONE),
)
"""Choices that differ from the usual ones in every section."""


def coordinator_with(choices: RunChoices) -> CoordinatorSettings:
    run = RunSettings(sites=SITES)
    return CoordinatorSettings(listen="a:1", state=Path("state"), tls=Path("tls"), run=run, **choices.sections())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_change_of_any_section_is_seen(name: str) -> None:
    for whole in (RunChoices(), SimulationSettings(), coordinator_with(RunChoices()), small_plan()):
        other = dataclasses.replace(whole, **{name: OTHERS.sections()[name]})
        assert changed_sections(whole, other) == changed_sections(choices_of(other), whole) == [name]
        assert choices_of(whole) == RunChoices(**whole.sections()) != choices_of(other)


@pytest.mark.parametrize("kind", [CoordinatorSettings, SimulationSettings, RunPlan])
def test_no_file_and_no_plan_has_a_section_apart(kind: type[RunChoices]) -> None:
    """What a coordinator's file and the plan have in common, and no more than its name, would not be compared."""
    shared = {field.name for field in dataclasses.fields(CoordinatorSettings)}
    shared &= {field.name for field in dataclasses.fields(RunPlan)}
    assert issubclass(kind, RunChoices)
    assert shared == set(SECTIONS) <= {field.name for field in dataclasses.fields(kind)}


def test_a_simulation_hands_all_of_them_to_its_coordinator(tmp_path: Path) -> None:
    assert changed_sections(OTHERS, RunChoices()) == SECTIONS, "give the new section another value in OTHERS, too"
    folder = lay_out(tmp_path / "run", SimulationSettings(**OTHERS.sections()))
    assert choices_of(read_settings(CoordinatorSettings, folder.config(COORDINATOR))) == OTHERS


def test_a_coordinator_puts_all_of_them_into_the_plan() -> None:
    profiles = {name: site_profile(name) for name in SITES}
    plan, _ = make_plan(coordinator_with(OTHERS), profiles, consortium="test", run_id="a1", offered=None)
    assert choices_of(plan) == choices_of(RunPlan.from_json(plan.to_json())) == OTHERS


def test_sections_that_contradict_each_other_are_refused_beside_the_ranges_of_a_files_own_fields() -> None:
    with pytest.raises(ValueError, match="threads = 0"):
        dataclasses.replace(coordinator_with(RunChoices()), threads=0)
    with pytest.raises(ValueError, match="frozen_stages = 1"):
        coordinator_with(RunChoices(training=TrainingSettings(frozen_stages=1)))
