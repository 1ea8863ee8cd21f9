"""A second start on a live state folder, by real processes: refused before it writes a byte into the first log."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mple.audit import FILE_NAME, verify
from mple.exit_codes import ExitCode
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import node_command, small_settings, start_node, wait_for_text, write_pictures


def test_a_second_start_leaves_log_and_trail_as_they_are(tmp_path: Path) -> None:
    """Of each node, while all of them wait for sites that never start."""
    folder = lay_out(tmp_path / "run", small_settings(write_pictures(tmp_path / "set.npz", train=120, test=12)))
    site = folder.sites[0]
    with Children(10.0) as children:
        start_node(children, folder, COORDINATOR)
        for name in (COMPUTE, site):
            start_node(children, folder, name)
            wait_for_text(folder.state(COORDINATOR) / "log.jsonl", f"/{name} has joined")
            wait_for_text(folder.state(name) / "log.jsonl", "joined run")
            wait_for_text(folder.state(COORDINATOR) / FILE_NAME, f'/{name}","what":"audit_head"')
        for name in (COORDINATOR, COMPUTE, site):
            state = folder.state(name)
            before = {file: (state / file).read_bytes() for file in ("log.jsonl", FILE_NAME)}
            code, complaint = second_start(folder, name)
            assert code == ExitCode.BAD_USAGE
            assert f"works in {state}; stop it, or name another state folder" in complaint
            assert {file: (state / file).read_bytes() for file in before} == before
            assert verify(state / FILE_NAME).sound
        assert children.ended() == []


def second_start(folder: RunFolder, name: str) -> tuple[int, str]:
    """Exit code and stderr."""
    done = subprocess.run(node_command(folder, name), check=False, capture_output=True, text=True, timeout=90)
    return done.returncode, done.stderr
