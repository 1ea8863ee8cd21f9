"""Several sites in one process, in a run that goes on without the one of them that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mple.exit_codes import ExitCode
from mple.plan import AbsencePolicy, AbsenceSettings, SiteSettings, read_settings, write_settings
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.report import summarise
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from mple.simulate.processes import NodeProcess
from mple.simulate.runner import start_process
from tests.support.small_consortium import small_settings, start_node, wait_for_end, wait_for_text, write_pictures

NOBODY = "127.0.0.1:9"
SITES = ("north", "south", "west")


def test_one_site_ends_and_the_others_of_its_process_take_part_to_the_end(tmp_path: Path) -> None:
    settings = replace(
        small_settings(write_pictures(tmp_path / "set.npz"), sites=SITES, epochs=1),
        absence=AbsenceSettings(policy=AbsencePolicy.PROCEED, patience_s=8.0),
    )
    folder = lay_out(tmp_path / "run", settings)
    config, sites = folder.config("south"), NodeProcess(SITES)
    cut_off = replace(read_settings(SiteSettings, config), compute=NOBODY, idle_timeout_s=2.0)
    config.write_text(write_settings(cut_off), encoding="utf-8")
    with Children(5.0) as children:
        start_node(children, folder, COORDINATOR)
        wait_for_text(folder.log_text(COORDINATOR), "listening on")
        start_node(children, folder, COMPUTE)
        start_process(children, folder, settings, sites)
        codes = wait_for_end(
            children, {COMPUTE, sites.name}, 180.0
        )  # the coordinator waits for the site that has ended
    said = sites.log_text(folder).read_text()
    assert codes == {COMPUTE: ExitCode.DONE, sites.name: ExitCode.UNREACHABLE}, said
    assert [line.split(": ")[1] for line in said.splitlines() if line.startswith("mple-provider: ")] == ["site south"]
    assert f"mple-provider: site south: gave up on {NOBODY} after 2 s" in said
    for name in ("north", "west"):
        assert f"{name}: the run has finished\n" in said
        assert "gave up" not in (folder.state(name) / "log.jsonl").read_text()
    assert "south: the run has finished" not in said
    summary = summarise(folder.path)
    assert [list(epoch.missing) for epoch in summary.absences] == [["south"]]
