"""A hospital whose samples do not come: by the run's policy the run fails in the end, or goes on and says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from mple.exit_codes import ExitCode
from mple.plan import AbsencePolicy, AbsenceSettings, SiteSettings, read_settings, write_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.report import summarise
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import small_settings, start_node, wait_for_end, write_pictures

NOBODY = "127.0.0.1:9"


def laid_out(tmp_path: Path, policy: AbsencePolicy) -> RunFolder:
    """A run of two sites; `south` reaches the coordinator but not the compute node."""
    settings = replace(
        small_settings(write_pictures(tmp_path / "set.npz"), most_val=8),
        absence=AbsenceSettings(policy=policy, patience_s=2.0),
    )
    folder = lay_out(tmp_path / "run", settings)
    config = folder.config("south")
    cut_off = replace(read_settings(SiteSettings, config), compute=NOBODY)
    config.write_text(write_settings(cut_off), encoding="utf-8")
    return folder


def test_training_goes_on_without_the_site_and_names_what_was_missing(tmp_path: Path) -> None:
    folder = laid_out(tmp_path, AbsencePolicy.PROCEED)
    with Children(5.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        codes = wait_for_end(children, set(folder.nodes))
    assert set(codes.values()) == {ExitCode.DONE}
    summary = summarise(folder.path)
    south = folder.plan().site("south")
    absent = [
        {"epoch": epoch, "missing": {"south": f"0-{south.train_images - 1}"}, "unscored": ["south"]} for epoch in (1, 2)
    ]
    assert [epoch.epoch for epoch in summary.absences] == [1, 2]
    assert json.loads((folder.path / "summary.json").read_text())["absences"] == absent
    assert summary.balance.whole, summary.balance.offenders


def test_a_run_that_waits_fails_in_the_end_and_says_who_was_silent(tmp_path: Path) -> None:
    folder = laid_out(tmp_path, AbsencePolicy.WAIT)
    with Children(5.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        codes = wait_for_end(children, set(folder.nodes))
    assert codes[COMPUTE] == codes[COORDINATOR] == codes["north"] == ExitCode.RUN_FAILED
    assert "no samples came in for 2 s; due from south" in folder.log_text(COMPUTE).read_text()
