"""How a node ends when its disk is full: code 6, one sentence with the way out, and the same command goes on.

The disk is "full" by the process's limit of file size (RLIMIT_FSIZE): the system then refuses real writes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, read_entries, verify
from mple.exit_codes import ExitCode
from mple.rpc import Role
from tests.support.served import PartyTls


@pytest.fixture(autouse=True)
def certificate(tmp_path: Path, party_tls: PartyTls) -> None:
    shutil.copytree(party_tls(Role.SITE, "north").key.parent, tmp_path / "tls")


def run(folder: Path, what: str, most_bytes: int, writes: int = 500) -> subprocess.CompletedProcess[str]:
    config = folder / "node.toml"
    settings = f'what = "{what}"\nwrites = {writes}\nmost_bytes = {most_bytes}\n'
    config.write_text(f'state = "state"\ntls = "tls"\n{settings}')
    command = [sys.executable, "-m", "tests.support.writing_node", "serve", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("what", ["audit", "log", "file", "ledger"])
def test_a_full_disk_is_a_clear_stop_and_the_same_command_goes_on(tmp_path: Path, what: str) -> None:
    ended = run(tmp_path, what, 60_000)
    assert ended.returncode == ExitCode.STORAGE, ended.stderr
    sentence, fix = [line for line in ended.stderr.splitlines() if line.startswith("mple-test: ")]
    assert "can't be written" in sentence
    assert str(tmp_path / "state") in sentence
    assert fix.startswith("mple-test: fix: ")
    assert fix.endswith(" and start the node again with the same command")
    assert "Traceback" not in ended.stderr
    assert "Logging error" not in ended.stderr
    assert run(tmp_path, what, 0, writes=5).returncode == ExitCode.DONE
    assert verify(tmp_path / "state" / FILE_NAME).sound
    last = list(read_entries(tmp_path / "state" / FILE_NAME))[-1]
    assert (last.what, last.result, last.facts) == ("node_stop", "ok", {"verb": "serve", "exit_code": 0})


def test_want_of_descriptors_is_a_clear_stop_too(tmp_path: Path) -> None:
    ended = run(tmp_path, "descriptors", 0)
    assert ended.returncode == ExitCode.RESOURCES, ended.stderr
    sentence, fix = [line for line in ended.stderr.splitlines() if line.startswith("mple-test: ")]
    assert "this process has no descriptors (its limit is 64) left" in sentence
    assert "raise the limit of open files" in fix
    assert "Traceback" not in ended.stderr
    last = list(read_entries(tmp_path / "state" / FILE_NAME))[-1]
    assert (last.what, last.result) == ("node_stop", "RESOURCES")
    assert run(tmp_path, "descriptors", 0, writes=5).returncode == ExitCode.DONE


def test_an_error_is_on_stderr_once_and_in_the_log_with_its_traceback(tmp_path: Path) -> None:
    ended = run(tmp_path, "fault", 0, writes=1)
    assert ended.returncode == ExitCode.INTERNAL
    (sentence,) = [line for line in ended.stderr.splitlines() if "NoneType" in line]
    assert sentence.startswith("mple-test: ")
    assert "Traceback" in (tmp_path / "state" / "log.jsonl").read_text(encoding="utf-8")
    last = list(read_entries(tmp_path / "state" / FILE_NAME))[-1]
    assert (last.what, last.result) == ("node_stop", "INTERNAL")


def test_a_damaged_file_ends_the_node_by_a_code_and_a_sentence_of_its_own(tmp_path: Path) -> None:
    ended = run(tmp_path, "damage", 0)
    assert ended.returncode == ExitCode.DAMAGED
    assert f"mple-test: {tmp_path / 'state' / 'plan.json'} is damaged\nmple-test: fix: put it back" in ended.stderr
    assert "Traceback" not in ended.stderr
    last = list(read_entries(tmp_path / "state" / FILE_NAME))[-1]
    assert (last.what, last.result) == ("node_stop", "DAMAGED")
