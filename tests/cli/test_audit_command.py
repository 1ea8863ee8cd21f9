"""`mple audit`: what it says of sound and of damaged trails, and by which code it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from mple.audit import FILE_NAME, verify
from mple.audit.trail import AuditTrail
from mple.cli import main
from mple.exit_codes import ExitCode


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with the trails of two nodes."""
    for name in ("north", "south"):
        state = tmp_path / "run" / name / "state"
        state.mkdir(parents=True)
        trail = AuditTrail(state / FILE_NAME, f"site/{name}")
        trail.append("local", "node_start", "ok")
        trail.append("compute/gpu", "refused", "WRONG_PHASE", detail="\x1b[2Jtoo soon")
        trail.append("local", "node_stop", "ok", exit_code=0)
        trail.close()
    return tmp_path / "run"


def test_sound_trails(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(run)]) == ExitCode.DONE
    north, south = capsys.readouterr().out.splitlines()
    for line, name in ((north, "north"), (south, "south")):
        path = run / name / "state" / FILE_NAME
        assert line == f"{path}: sound, 3 lines, head {verify(path).head}"


def test_a_damaged_trail_is_named_beside_the_sound_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "south" / "state" / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert main(["audit", "verify", str(run)]) == ExitCode.RUN_FAILED
    north, south = capsys.readouterr().out.splitlines()
    assert "sound" in north
    assert south.startswith(f"{path}: line 2 removed (line 3 of the trail follows on line 1), 2 lines, head ")


def test_a_head_proves_that_nothing_was_cut_off(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "south" / "state" / FILE_NAME
    head = verify(path).head
    assert main(["audit", "verify", str(path), "--head", head]) == ExitCode.DONE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert main(["audit", "verify", str(path)]) == ExitCode.DONE
    assert main(["audit", "verify", str(path), "--head", head]) == ExitCode.RUN_FAILED
    assert "head missing" in capsys.readouterr().out
    assert main(["audit", "verify", str(run), "--head", head]) == ExitCode.BAD_USAGE


def test_show_by_who_and_what(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run / "north" / "state" / FILE_NAME)
    assert main(["audit", "show", path]) == ExitCode.DONE
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["audit", "show", path, "--who", "local", "--what", "node_stop"]) == ExitCode.DONE
    assert capsys.readouterr().out.rstrip().endswith("local node_stop ok exit_code=0")
    assert main(["audit", "show", path, "--what", "refused"]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "compute/gpu refused WRONG_PHASE" in out


def test_nothing_to_verify(tmp_path: Path) -> None:
    assert main(["audit", "verify", str(tmp_path)]) == ExitCode.BAD_USAGE
    assert main(["audit", "verify", str(tmp_path / "none")]) == ExitCode.BAD_USAGE
