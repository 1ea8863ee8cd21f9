"""A whole run in hardened mode, five processes: pictures leave with noise, predictions too, and the ledgers balance."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mple.audit import FILE_NAME, read_entries
from mple.exit_codes import ExitCode
from mple.plan import PrivacyMode, PrivacySettings
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.report import summarise
from mple.report.page import page
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import answer_on, small_settings, start_node, wait_for_end, write_pictures

PRIVACY = PrivacySettings(mode=PrivacyMode.NOISE, budget_bits=400.0)


def test_a_run_with_noise_ends_well_and_says_how_much_there_was(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "set.npz", train=120, test=12)
    Image.fromarray(np.load(pictures)["x_test"][0]).save(tmp_path / "new.png")
    folder = lay_out(tmp_path / "run", dataclasses.replace(small_settings(pictures, codec="q6"), privacy=PRIVACY))
    with Children(10.0) as children:
        start_node(children, folder, COMPUTE, "--set", "stay=true")
        for name in (COORDINATOR, *folder.sites):
            start_node(children, folder, name)
        codes = wait_for_end(children, {COORDINATOR, *folder.sites})
        assert set(codes.values()) == {ExitCode.DONE}
        # Two processes of the site draw the same noise on the same picture, hence the same answer to the last bit.
        assert answer_on(folder, tmp_path / "new.png") == answer_on(folder, tmp_path / "new.png")
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]

    summary = summarise(folder.path)
    assert summary.balance.balanced, summary.balance.offenders
    written = json.loads((folder.path / "summary.json").read_text())
    assert folder.plan().privacy == PRIVACY
    assert "at most 400 bits of each" in written["protection"]
    assert "at most 400 bits of each" in page(summary)
    assert [level["site"] for level in written["privacy"]["sites"]] == list(folder.sites)
    for level in written["privacy"]["sites"]:
        events = [entry for entry in read_entries(folder.state(level["site"]) / FILE_NAME) if entry.what == "noise"]
        assert [entry.facts["deviation_px"] for entry in events] == [round(level["deviation_px"], 2)]
        assert level["deviation_px"] > 5


def test_a_site_that_wants_noise_stops_a_run_without_it(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "run", small_settings(write_pictures(tmp_path / "set.npz", train=60, test=6)))
    wary, *others = folder.sites
    with Children(10.0) as children:
        for name in (COORDINATOR, COMPUTE, *others):
            start_node(children, folder, name)
        start_node(children, folder, wary, "--set", "privacy.most_budget_bits=64.0")
        codes = wait_for_end(children, {COORDINATOR, wary})
    assert codes[COORDINATOR] == ExitCode.RUN_FAILED
    assert codes[wary] == ExitCode.BAD_USAGE
    reason = "privacy.most_budget_bits is 64, the run is one without noise"
    assert all(reason in folder.log_text(name).read_text() for name in (wary, COORDINATOR))
    assert not list(folder.state(wary).glob("releases-*"))
