"""Files of a run that was killed half-way, damaged: the same network, or a sentence and then the same network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_files_of_a_half_done_run(tmp_path: Path) -> None:
    """A part of the matrix, by its command: a process of its own, because it forks."""
    only = ["compute/state/layers", "north/state/releases", "north/vault/consortium", "coordinator/state/coordinator."]
    command = [sys.executable, "-m", "benchmarks.state_damage", "--jobs", "2", "--out", str(tmp_path), "--only", *only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / "state_damage.json").read_text(encoding="utf-8"))["matrix"]
    stopped = [cell for cell in cells if cell["exit_code"]]
    assert {cell["exit_code"] for cell in stopped} == {7}
    names = {"releases", "consortium", "coordinator", "run"}
    assert all(any(name in cell["sentence"] for name in names) for cell in stopped)
    layers = {cell["outcome"] for cell in cells if cell["file"].endswith(".safetensors")}
    assert layers <= {"same network", "no such file before"}
