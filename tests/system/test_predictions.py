"""Predictions by real processes: after a run, and after a restart of the compute node with nobody else left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from mple.exit_codes import ExitCode
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.children import Children, command
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import small_settings, start_node, wait_for_end, write_pictures


def test_a_compute_node_that_stays_answers_after_the_run_and_after_a_restart(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "set.npz", train=120, test=12)
    pixels_HWC = np.load(pictures)["x_test"][0]
    Image.fromarray(pixels_HWC).save(tmp_path / "new.png")
    folder = lay_out(tmp_path / "run", small_settings(pictures, epochs=2))
    with Children(10.0) as children:
        start_staying(children, folder)
        for name in (COORDINATOR, *folder.sites):
            start_node(children, folder, name)
        codes = wait_for_end(children, {COORDINATOR, *folder.sites})
        assert set(codes.values()) == {ExitCode.DONE}
        before = predicted(folder, tmp_path / "new.png")
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]
    with Children(10.0) as children:
        start_staying(children, folder)
        assert predicted(folder, tmp_path / "new.png") == before
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]


def start_staying(children: Children, folder: RunFolder) -> None:
    """Start the compute node so that it outlives the run."""
    arguments = [*command("mple-compute"), "serve", str(folder.config(COMPUTE)), "--set", "stay=true"]
    children.start(COMPUTE, arguments, log_text=folder.log_text(COMPUTE), threads=1)


def predicted(folder: RunFolder, picture: Path) -> dict[str, object]:
    """What a site says of a picture."""
    arguments = [*command("mple-provider"), "predict", str(folder.config(folder.sites[0])), str(picture), "--json"]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=50)
    assert done.returncode == ExitCode.DONE, done.stderr
    whole: dict[str, object] = json.loads(done.stdout)
    return whole
