"""Files and folders for their owner alone, whatever the umask; state folders that others share are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mple.cli import main
from mple.disk.locks import claim
from mple.disk.private import make_private, private_file
from mple.doctor.findings import Severity
from mple.doctor.own_files import state_folder
from mple.meter import Ledger
from tests.support.modes import open_to_others, umask_of

UMASKS = [0o000, 0o002, 0o022, 0o077]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", UMASKS)
def test_folders_are_made_down_to_the_one_that_is_wanted(tmp_path: Path, umask: int) -> None:
    with umask_of(umask):
        make_private(tmp_path / "one" / "two" / "three")
        make_private(tmp_path / "one" / "two" / "three")
    assert [mode(tmp_path / part) for part in ("one", "one/two", "one/two/three")] == [0o700] * 3


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    make_private(tmp_path / "new")
    assert mode(tmp_path) == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")


@pytest.mark.parametrize("umask", UMASKS)
def test_a_file_is_made_or_closed_and_keeps_its_content(tmp_path: Path, umask: int) -> None:
    there = tmp_path / "there"
    there.write_text("content")
    there.chmod(0o666)
    with umask_of(umask):
        assert private_file(there) == there
        private_file(tmp_path / "new").open("ab").close()
    assert [mode(there), mode(tmp_path / "new")] == [0o600, 0o600]
    assert there.read_text() == "content"


def test_what_sqlite_lays_beside_a_ledger_is_as_closed_as_the_ledger(tmp_path: Path) -> None:
    with umask_of(0), Ledger(tmp_path / "ledger.sqlite", "site/north"):
        assert {"ledger.sqlite", "ledger.sqlite-wal"} <= {path.name for path in tmp_path.iterdir()}
        tmp_path.chmod(0o700)
        assert open_to_others(tmp_path) == []


@pytest.mark.parametrize("shared", [0o770, 0o777, 0o720, 0o702, 0o1777])
def test_a_state_folder_that_others_can_write_to_is_refused(tmp_path: Path, shared: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(shared)
    with (
        pytest.raises(ValueError, match=rf"others can write to .*mode {shared:04o}.*chmod -R go= {state}"),
        claim(state, "a"),
    ):
        pass
    found = state_folder(state)
    assert (found.severity, found.step, found.fix) == (Severity.FAULT, "state", f"chmod -R go= {state}")
    os.system(found.fix)
    with claim(state, "a"):
        assert mode(state) == 0o700
    assert state_folder(state).severity is not Severity.FAULT


def test_a_state_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 4711)
    with pytest.raises(ValueError, match=r"belongs to .*, not to .*; mend it by: chown -R "), claim(tmp_path, "a"):
        pass
    assert state_folder(tmp_path).fix.startswith("chown -R ")


def test_a_state_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    """So that layers of an older program in it, open as they may be, are not read either."""
    tmp_path.chmod(0o755)
    with claim(tmp_path, "a"):
        assert mode(tmp_path) == 0o700


def test_a_command_makes_nothing_that_others_can_read(tmp_path: Path) -> None:
    """Whatever library writes for it."""
    with umask_of(0):
        assert main(["--version"]) == 0
        (tmp_path / "file").write_text("of any library")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
