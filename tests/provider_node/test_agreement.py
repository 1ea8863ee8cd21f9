"""A site agrees to a plan that says what it has offered, of its patients too, and that its machine can hold."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mple.data import Dataset, LabelledImages
from mple.data.images import PatientSplit
from mple.machine import MemoryShortError
from mple.plan import RunPlan, TaskKind, TaskSettings, TrainingSettings
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from provider_node.agreement import agree
from tests.support.small_plan import small_plan


def _site(plan: RunPlan, state: Path, *ranks: str) -> Any:
    mine = plan.sites[0]

    def images(count: int) -> LabelledImages:
        pixels = np.zeros((count, plan.channels, plan.height, plan.width), np.uint8)
        return LabelledImages(pixels, np.zeros(count, np.int64))

    dataset = Dataset(
        name="x",
        classes=plan.classes,
        train=images(mine.train_images),
        test=images(mine.test_images),
        patients=PatientSplit.APART,
    )
    notes = SimpleNamespace(planned=mine.key_epoch, fingerprints={mine.key_epoch: mine.key_fingerprint})
    addresses = ("compute:7401", *ranks)
    settings = SimpleNamespace(state=state, privacy=SimpleNamespace(most_budget_bits=None), compute_addresses=addresses)
    return SimpleNamespace(name=mine.name, dataset=dataset, keys=SimpleNamespace(notes=notes), settings=settings)


def _made(plan: RunPlan) -> coordinator_pb2.PlanMade:
    return coordinator_pb2.PlanMade(plan_json=plan.to_json(), plan_sha256=plan.sha256())


def _saying(plan: RunPlan, patients: PatientSplit) -> RunPlan:
    first = dataclasses.replace(plan.sites[0], patients=patients)
    return dataclasses.replace(plan, sites=(first, *plan.sites[1:]))


def test_a_plan_that_says_what_was_offered_is_kept(tmp_path: Path) -> None:
    plan = _saying(small_plan(), PatientSplit.APART)
    assert agree(_site(plan, tmp_path), _made(plan)) == plan


@pytest.mark.parametrize("patients", [PatientSplit.UNKNOWN, PatientSplit.SHARED])
def test_a_plan_with_another_word_on_patients_is_refused(tmp_path: Path, patients: PatientSplit) -> None:
    plan = _saying(small_plan(), patients)
    with pytest.raises(MpleError, match="offered was") as caught:
        agree(_site(plan, tmp_path), _made(plan))
    assert caught.value.code is ErrorCode.PLAN_HASH_MISMATCH


@pytest.mark.parametrize(
    ("ranks", "addresses", "text", "way_out"),
    [
        (3, (), "training.ranks = 3, this site's file has 1 address of", "name those of ranks 1 to 2 in compute_ranks"),
        (1, ("compute:7402",), "training.ranks = 1, this site's file has 2 addresses of", "leave compute_ranks out"),
    ],
)
def test_a_plan_needs_an_address_for_each_rank(
    tmp_path: Path, ranks: int, addresses: tuple[str, ...], text: str, way_out: str
) -> None:
    plan = _saying(small_plan(training=TrainingSettings(ranks=ranks)), PatientSplit.APART)
    with pytest.raises(MpleError, match=text) as caught:
        agree(_site(plan, tmp_path, *addresses), _made(plan))
    assert (caught.value.code, caught.value.fix) == (ErrorCode.RANKS_REJECTED, way_out)
    agree(_site(plan, tmp_path, *[f"compute:{7402 + rank}" for rank in range(ranks - 1)]), _made(plan))


def test_a_plan_for_another_task_is_refused(tmp_path: Path) -> None:
    plan = _saying(small_plan(task=TaskSettings(kind=TaskKind.LABELS)), PatientSplit.APART)
    text = "the plan is for a task of labels, this site's data are for a task of classes"
    with pytest.raises(MpleError, match=text) as caught:
        agree(_site(plan, tmp_path), _made(plan))
    assert caught.value.code is ErrorCode.PLAN_HASH_MISMATCH


def test_a_plan_beyond_this_machine_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _saying(small_plan(), PatientSplit.APART)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 1000)
    with pytest.raises(MemoryShortError, match="a site with its pictures: needs"):
        agree(_site(plan, tmp_path), _made(plan))
    assert not list(tmp_path.iterdir())
