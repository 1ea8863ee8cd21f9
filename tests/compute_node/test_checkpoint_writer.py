"""Checkpoints are written while training goes on, of the state at the time when they were asked for."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compute_node.training.checkpoint import Checkpoint, CheckpointFolder, CheckpointWriter
from tests.support.checkpoints import PLAN, POSITION


def test_what_is_changed_meanwhile_is_written_as_it_was(tmp_path: Path) -> None:
    folder, go_on = CheckpointFolder(tmp_path, PLAN), threading.Event()
    weights = torch.zeros(3)
    with CheckpointWriter(folder, before=lambda: assert_set(go_on)) as writer:
        writer.write(Checkpoint(POSITION, {"weights": weights}))
        assert folder.newest() is None
        assert writer.written_s is None
        weights += 1
        go_on.set()
    kept = folder.newest()
    assert kept is not None
    assert torch.equal(kept.tensors["weights"], torch.zeros(3))
    assert writer.written_s is not None


def test_the_next_one_waits_for_the_one_before(tmp_path: Path) -> None:
    folder, begun, go_on = CheckpointFolder(tmp_path, PLAN), threading.Semaphore(0), threading.Event()

    def before() -> None:
        begun.release()
        assert_set(go_on)

    with CheckpointWriter(folder, before) as writer:
        writer.write(Checkpoint(POSITION, {"weights": torch.zeros(3)}))
        second = Checkpoint(replace(POSITION, steps_done=20), {"weights": torch.ones(3)})
        asking = threading.Thread(target=writer.write, args=(second,))
        asking.start()
        assert begun.acquire(timeout=30)
        assert not begun.acquire(timeout=0.05)
        go_on.set()
        asking.join(timeout=30)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_refuses_is_told_at_the_next_look(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(28, "no space left on device")

    writer = CheckpointWriter(CheckpointFolder(tmp_path, PLAN), refuse)
    with pytest.raises(OSError, match="no space left"), writer:
        writer.write(Checkpoint(POSITION, {"weights": torch.zeros(3)}))
    with pytest.raises(OSError, match="no space left"):
        writer.raise_fault()


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)
