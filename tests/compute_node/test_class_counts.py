"""Class counts on their way: what a site may tell, when training begins by them, and that a restart keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from compute_node.feeding.told_counts import told_counts
from mple.model.class_weights import ClassCounts
from mple.plan import AbsencePolicy, ClassWeights, TaskKind, TaskSettings
from mple.records.class_counts import keep_class_counts, kept_class_counts
from mple.rpc import ErrorCode
from mple.v1 import compute_pb2
from tests.support.open_intake import IDLE_S, OpenIntake
from tests.support.small_plan import small_plan
from tests.support.small_run import refused

INVERSE = TaskSettings(class_weights=ClassWeights.INVERSE)
LABELS = TaskSettings(kind=TaskKind.LABELS, class_weights=ClassWeights.INVERSE)


def hello(*having: int, known: tuple[int, ...] = ()) -> compute_pb2.FeedHello:
    return compute_pb2.FeedHello(class_counts=having, known_counts=known)


def test_counts_are_taken_where_the_plan_weights_classes() -> None:
    assert told_counts(small_plan(), "north", hello()) is None
    assert told_counts(small_plan(task=INVERSE), "north", hello(2, 0, 3)) == ClassCounts(having=(2, 0, 3))
    counts = ClassCounts(having=(2, 0, 3), known=(5, 0, 4))
    assert told_counts(small_plan(task=LABELS), "north", hello(2, 0, 3, known=(5, 0, 4))) == counts


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (TaskSettings(), hello(2, 0, 3)),
        (INVERSE, hello()),
        (INVERSE, hello(5, 0)),
        (INVERSE, hello(2, 0, 4)),
        (INVERSE, hello(2, 0, 3, known=(5, 5, 5))),
        (LABELS, hello(2, 0, 3)),
        (LABELS, hello(2, 0, 3, known=(5, 0, 6))),
        (LABELS, hello(2, 1, 3, known=(5, 0, 4))),
    ],
    ids=["not asked", "missing", "too few", "too many samples", "known of classes", "not known", "more", "having"],
)
def test_counts_that_can_not_be_are_refused(task: TaskSettings, told: compute_pb2.FeedHello) -> None:
    with refused(ErrorCode.MESSAGE_MALFORMED, "site north|class counts of site north"):
        told_counts(small_plan(task=task), "north", told)


def test_training_waits_for_all_sites_counts(window: Callable[..., OpenIntake]) -> None:
    one, found = window(task=INVERSE), []
    waiting = threading.Thread(target=lambda: found.append(one.intake.class_counts()))
    one.intake.take_hello("north", hello(2, 0, 3))
    waiting.start()
    one.clock.wait_until_seen()
    assert not found
    one.intake.take_hello("south", hello(1, 3, 0))
    waiting.join(30)
    assert found == [ClassCounts(having=(3, 3, 3))]
    with refused(ErrorCode.MESSAGE_MALFORMED, "site south tells other class counts than before"):
        one.intake.take_hello("south", hello(0, 4, 0))


def test_sites_that_are_absent_are_left_out_or_end_the_run(window: Callable[..., OpenIntake]) -> None:
    for policy in (AbsencePolicy.PROCEED, AbsencePolicy.WAIT):
        one, found = window(task=INVERSE, policy=policy), []

        def wait(one: OpenIntake = one, found: list[object] = found) -> None:
            try:
                found.append(one.intake.class_counts())
            except Exception as fault:
                found.append(fault)

        one.intake.take_hello("north", hello(2, 0, 3))
        waiting = threading.Thread(target=wait)
        waiting.start()
        one.clock.wait_until_seen()
        one.pass_time(0, int(IDLE_S))
        waiting.join(30)
        if policy is AbsencePolicy.PROCEED:
            assert found == [ClassCounts(having=(2, 0, 3))]
        else:
            assert "no class counts came in for 30 s; due from south" in str(found[0])


def test_what_training_began_with_is_kept_for_its_plan_alone(tmp_path: Path) -> None:
    counts = ClassCounts(having=(2, 0), known=(5, 1))
    assert kept_class_counts(tmp_path, "a") is None
    keep_class_counts(tmp_path, "a", counts)
    assert kept_class_counts(tmp_path, "a") == counts
    assert kept_class_counts(tmp_path, "b") is None
    path = tmp_path / "class_counts.json"
    path.write_text(path.read_text().replace("5", "6"))
    with pytest.raises(ValueError, match=r"class_counts\.json") as fault:
        kept_class_counts(tmp_path, "a")
    assert "remove it" in str(vars(fault.value))
