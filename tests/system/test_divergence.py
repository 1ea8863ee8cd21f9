"""A run whose training diverges: the compute node is named with the setting that cures it, and no site is."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.exit_codes import ExitCode
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.simulate.runner import SimulationError, simulate
from tests.support.small_consortium import small_settings, write_pictures


def test_divergence_is_named_at_the_compute_node_and_blamed_on_no_site(tmp_path: Path) -> None:
    settings = small_settings(write_pictures(tmp_path / "set.npz", train=60, test=12), epochs=2)
    steep = replace(settings, training=replace(settings.training, peak_lr=10.0, weight_decay=1e6))
    with pytest.raises(SimulationError, match=r"node compute ended with code 3:(.|\n)*DIVERGED") as failed:
        simulate(steep, tmp_path / "run", Console(file=StringIO(), width=160), plain=True)
    assert failed.value.code is ExitCode.RUN_FAILED
    assert "lower training.peak_lr (now 10) or training.weight_decay (now 1e+06)" in str(failed.value)
    for name in (COORDINATOR, *settings.sites):
        said = (tmp_path / "run" / "nodes" / name / "log.txt").read_text()
        last = [line for line in said.splitlines() if line.startswith("mple-")][-1]
        assert "RUN_FAILED: the run has failed: compute/compute: DIVERGED" in last, said
    assert "compute" in (tmp_path / "run" / "nodes" / COMPUTE / "log.txt").read_text()
