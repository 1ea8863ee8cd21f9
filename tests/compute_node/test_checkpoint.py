"""Checkpoints: whole or not there, damage is found, the one before is used then, others' are not taken."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compute_node.training.checkpoint import Checkpoint, CheckpointFolder
from tests.support.checkpoints import PLAN, POSITION

FULL_DISK = """
import errno, resource, sys
from pathlib import Path
import torch
from compute_node.training.checkpoint import Checkpoint, CheckpointFolder, Position

folder = CheckpointFolder(Path(sys.argv[1]), "ab" * 32)
newest = folder.newest()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    folder.write(Checkpoint(newest.position, {"weights": torch.zeros(100_000)}))
except OSError as fault:
    print(fault.errno == errno.EFBIG)
"""


def checkpoint(steps: int) -> Checkpoint:
    weights = torch.arange(6, dtype=torch.float32).view(1, 2, 3) + steps
    return Checkpoint(replace(POSITION, steps_done=steps), {"weights": weights})


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", PLAN)
    assert folder.newest() is None
    folder.write(checkpoint(12))
    found = CheckpointFolder(tmp_path / "checkpoints", PLAN).newest()
    assert found is not None
    assert found.position == POSITION
    assert torch.equal(found.tensors["weights"], checkpoint(12).tensors["weights"])


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, PLAN)
    paths = [folder.write(checkpoint(steps)) for steps in (9, 10, 100)]
    assert sorted(tmp_path.iterdir()) == sorted(paths[1:])


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_of_a_damaged_one_the_one_before_is_used(tmp_path: Path, damage: str) -> None:
    folder = CheckpointFolder(tmp_path, PLAN)
    folder.write(checkpoint(10))
    path = folder.write(checkpoint(20))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"flipped": bytes(content), "cut": bytes(content[:-5]), "emptied": b""}[damage])
    found = folder.newest()
    assert found is not None
    assert found.position.steps_done == 10
    assert not path.exists()


def test_another_plans_checkpoints_are_not_taken(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, PLAN).write(checkpoint(10))
    assert CheckpointFolder(tmp_path, "cd" * 32).newest() is None
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "000000000010-00.part").write_bytes(b"torn")
    folder = CheckpointFolder(tmp_path, PLAN)
    assert list(tmp_path.iterdir()) == []
    folder.write(checkpoint(10))
    folder.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_earlier_ones(tmp_path: Path) -> None:
    path = CheckpointFolder(tmp_path, PLAN).write(checkpoint(10))
    code = FULL_DISK.replace(
        "resource.setrlimit", "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("True\n", "")
    assert list(tmp_path.iterdir()) == [path]
