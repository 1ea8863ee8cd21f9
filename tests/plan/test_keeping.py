"""Which epoch's network is kept and when training ends, against a loop that says it plainly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.metrics import MetricSettings
from mple.model.settings import Keep
from mple.plan import PlanError, RunPlan, TrainingSettings
from mple.plan.keeping import Judged, KeepRule, keep_rule
from mple.plan.settings import RunChoices
from tests.support.small_plan import small_plan

VALUES = st.lists(st.none() | st.sampled_from([0.25, 0.5, 1.0, 2.0]) | st.floats(0, 9), min_size=1, max_size=12)


def naive(values: list[float | None], higher: bool, patience: int | None) -> tuple[int, int]:
    """The best epoch, 0 for none, and how many are trained: looking back over all values after each epoch."""
    for epochs in range(1, len(values) + 1):
        known = [(value, epoch) for epoch, value in enumerate(values[:epochs], 1) if value is not None]
        wanted = max if higher else min
        best = next((epoch for value, epoch in known if value == wanted(one for one, _ in known)), 0)
        if patience is not None and len([epoch for _, epoch in known if epoch > best]) >= patience:
            break
    return best, epochs


@given(VALUES, st.booleans(), st.none() | st.integers(1, 4))
def test_the_best_epoch_and_the_end_are_those_of_a_plain_loop(
    values: list[float | None], higher: bool, patience: int | None
) -> None:
    rule, judged, epochs = KeepRule(best=True, higher_is_better=higher, patience=patience), Judged(), 0
    while epochs < len(values) and not rule.ends(judged):
        judged, epochs = rule.after(judged, epochs + 1, values[epochs]), epochs + 1
    assert (judged.best_epoch, epochs) == naive(values, higher, patience)
    if judged.best_epoch:
        assert judged.best_value == values[judged.best_epoch - 1]


@pytest.mark.parametrize(
    ("training", "validated", "best"),
    [({}, True, True), ({}, False, False), ({"keep": Keep.LAST}, True, False), ({"keep": Keep.BEST}, True, True)],
)
def test_the_best_is_kept_where_there_is_validation(training: dict[str, Any], validated: bool, best: bool) -> None:
    rule = keep_rule(RunChoices(training=TrainingSettings(**training)), validated=validated)
    assert (rule.best, rule.higher_is_better, rule.patience) == (best, False, None)


def test_accuracy_is_better_when_it_is_higher() -> None:
    choices = RunChoices(training=TrainingSettings(keep_by="accuracy", patience_epochs=3))
    assert keep_rule(choices, validated=True) == KeepRule(best=True, higher_is_better=True, patience=3)


@pytest.mark.parametrize(
    ("training", "text"),
    [
        ({"keep": Keep.BEST}, "training.keep = best, but no site has a validation picture; set validation_share"),
        ({"patience_epochs": 2}, "training.patience_epochs = 2, but no site has a validation picture"),
    ],
)
def test_what_needs_validation_is_refused_without(training: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small_plan(training=TrainingSettings(**training))
    small_plan(training=TrainingSettings(**training), vals={"north": 1})


def test_a_metric_that_nobody_tells_can_not_judge() -> None:
    few, whole = MetricSettings(tallies=("counts",)), RunChoices()
    with pytest.raises(ValueError, match=r'keep_by = "loss" is made of the tally "loss", which metrics.tallies leaves'):
        keep_rule(RunChoices(metrics=few), validated=True)
    assert not keep_rule(RunChoices(metrics=few), validated=False).best
    for name in ("los", "sensitivity_at_threshold"):
        with pytest.raises(ValueError, match=f"training.keep_by = '{name}'; choose one of accuracy"):
            RunChoices(training=TrainingSettings(keep_by=name))
    assert keep_rule(whole, validated=True).best


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    text = small_plan(training=TrainingSettings(patience_epochs=2), vals={"north": 1}).to_json()
    with pytest.raises(PlanError, match="patience_epochs = 2, but no site has a validation picture"):
        RunPlan.from_json(text.replace(b'"val_images":1', b'"val_images":0'))
