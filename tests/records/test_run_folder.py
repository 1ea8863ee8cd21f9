"""A run's folder: where things lie, and one sentence for what is no run, has not finished, or was not copied whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mple.disk.damage import with_checksum
from mple.plan import TrainingSettings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunEnd, RunFolder, RunFolderError, RunNote, new_folder
from tests.support.small_plan import small_plan

PLAN = small_plan()
SITES = tuple(site.name for site in PLAN.sites)


def plan_at(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(with_checksum(PLAN.to_json()))


def test_where_things_lie(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, SITES)
    assert folder.nodes == (COORDINATOR, COMPUTE, *SITES)
    assert folder.state("north") == tmp_path / "nodes" / "north" / "state"
    assert folder.config("north") == tmp_path / "nodes" / "north" / "node.toml"
    assert folder.vault_folder("north") == tmp_path / "nodes" / "north" / "vault"
    assert folder.ledger == tmp_path / "ledger.sqlite"


def test_each_rank_of_the_compute_node_has_a_state_folder_and_a_ledger(tmp_path: Path) -> None:
    compute = tmp_path / "nodes" / "compute" / "state"
    folder = RunFolder(tmp_path, ("north",), ranks=3)
    assert folder.state(COMPUTE) == compute
    assert folder.compute_states == (compute, compute / "rank-1", compute / "rank-2")
    assert folder.node_ledgers == (
        compute / "ledger.sqlite",
        compute / "rank-1" / "ledger.sqlite",
        compute / "rank-2" / "ledger.sqlite",
        tmp_path / "nodes" / "coordinator" / "state" / "ledger.sqlite",
        tmp_path / "nodes" / "north" / "state" / "ledger.sqlite",
    )
    plan = small_plan(training=TrainingSettings(ranks=3))
    (tmp_path / "plan.json").write_bytes(with_checksum(plan.to_json()))
    assert RunFolder.begun(tmp_path).ranks == 3


def test_a_run_that_has_begun_is_known_by_the_compute_nodes_plan(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no plan\.json: is it the folder of a simulation\?"):
        RunFolder.begun(tmp_path)
    plan_at(RunFolder(tmp_path, ()).state(COMPUTE) / "plan.json")
    folder = RunFolder.begun(tmp_path)
    assert (folder.sites, folder.plan()) == (SITES, PLAN)
    with pytest.raises(RunFolderError, match=r"holds no plan\.json: is it the folder of a finished simulation\?"):
        RunFolder.finished(tmp_path)


def test_a_run_that_has_finished_has_its_plan_at_the_top(tmp_path: Path) -> None:
    plan_at(tmp_path / "plan.json")
    (tmp_path / "summary.json").write_text(
        json.dumps({"state": "finished", "run_id": "r", "versions": {"mple": "1"}, "balance": {"matched": 3}})
    )
    folder = RunFolder.finished(tmp_path)
    assert (folder.sites, folder.note()) == (SITES, RunNote(state=RunEnd.FINISHED, versions={"mple": "1"}))


@pytest.mark.parametrize("state", [RunEnd.FAILED, RunEnd.INTERRUPTED])
def test_why_a_run_has_not_finished_is_told(tmp_path: Path, state: RunEnd) -> None:
    plan_at(tmp_path / "plan.json")
    RunFolder(tmp_path, SITES).note_end(state, "the node north ended")
    assert json.loads((tmp_path / "summary.json").read_text())["reason"] == "the node north ended"
    with pytest.raises(RunFolderError, match=f"is {state}: the node north ended"):
        RunFolder.finished(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"reason": "x"}', '{"state": "over"}', '{"state": "failed", "reason": 3}'])
def test_a_damaged_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=r"summary\.json"):
        RunFolder.finished(tmp_path)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"plan\.json is damaged"):
        RunFolder.finished(tmp_path)


def test_a_new_folder_may_be_there_already_but_not_be_a_file(tmp_path: Path) -> None:
    new_folder(tmp_path / "a" / "b")
    new_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="not empty"):
        new_folder(tmp_path / "file")
