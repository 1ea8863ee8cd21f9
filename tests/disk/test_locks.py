"""One process per state folder, and a claim that ends with whoever made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mple.disk.locks import claim, locked

HOLDING = """
import sys, time
from pathlib import Path
from mple.disk.locks import claim
with claim(Path(sys.argv[1]), "mple-provider"):
    print("ready", flush=True)
    time.sleep(60)
"""
WAITING = """
import sys
from pathlib import Path
from mple.disk.locks import locked
with locked(Path(sys.argv[1])):
    print("in")
"""


def test_the_folder_is_made(tmp_path: Path) -> None:
    with claim(tmp_path / "a" / "state", "mple-provider"):
        assert (tmp_path / "a" / "state").is_dir()


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    expected = rf"another mple-provider \(process {os.getpid()}\) works in .*; stop it, or name another state folder"
    with claim(tmp_path, "mple-provider"), pytest.raises(ValueError, match=expected), claim(tmp_path, "mple-compute"):
        pass
    with claim(tmp_path, "mple-compute"):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(ValueError, match=f"process {holder.pid}"), claim(tmp_path, "mple-provider"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(20)
    holder.stdout.close()
    with claim(tmp_path, "mple-provider"):
        pass


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(ValueError, match=r"state = .* can't be used"), claim(tmp_path / "state", "mple-provider"):
        pass


def test_turns_are_taken_between_processes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with locked(path):
            second = subprocess.Popen([sys.executable, "-c", WAITING, path], stdout=subprocess.PIPE)
            with pytest.raises(subprocess.TimeoutExpired):
                second.communicate(timeout=1.0)
        assert second.communicate(timeout=20)[0] == b"in\n"
