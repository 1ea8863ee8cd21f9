"""What a run leaves is its owner's alone, also where nothing else sees to it: under umask 000."""

from __future__ import annotations

import os
import stat
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.cli import main
from mple.node import ending
from mple.simulate.runner import simulate
from tests.support.modes import UNMASKED, open_to_others, umask_of
from tests.support.small_consortium import small_settings, write_pictures


def test_everything_in_a_run_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the modes that our code names: no process may change its umask here."""
    customs = tmp_path / "customs"
    customs.mkdir()
    (customs / "sitecustomize.py").write_text(UNMASKED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(customs), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setattr(ending, "keep_private", lambda: None)
    settings = small_settings(write_pictures(tmp_path / "set.npz"), codec="q8", epochs=1)
    out = tmp_path / "new" / "run"
    with umask_of(0):
        assert simulate(settings, out, Console(file=StringIO()), plain=True) is not None
        assert main(["report", str(out)]) == 0
        assert main(["export", str(out), "--csv", str(tmp_path / "new" / "ledger.csv")]) == 0
    assert open_to_others(tmp_path / "new") == []
    assert len(list(out.rglob("*.safetensors"))) >= 3, "layers and the model were there to be looked at"


def test_a_command_makes_nothing_that_others_can_read(tmp_path: Path) -> None:
    """Whatever library writes for it."""
    with umask_of(0):
        assert main(["--version"]) == 0
        (tmp_path / "file").write_text("of any library")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
