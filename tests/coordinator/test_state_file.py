"""The state file: all or nothing, one owner, kept over restarts."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from coordinator.memory.state_file import StateFile


def test_facts_survive_a_restart(tmp_path: Path) -> None:
    with StateFile(tmp_path) as file:
        assert file.fact("name") is None
        file.keep_fact("name", b"first")
        file.keep_fact("name", b"second")
    with StateFile(tmp_path) as file:
        assert file.fact("name") == b"second"


def test_file_is_its_owners_only(tmp_path: Path) -> None:
    with StateFile(tmp_path) as file:
        file.keep_fact("name", b"secret")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["coordinator.sqlite"] == modes["coordinator.sqlite-wal"] == 0o600


def test_transaction_rolls_back_wholly(state_file: StateFile) -> None:
    state_file.keep_fact("kept", b"before")
    with contextlib.suppress(ZeroDivisionError), state_file.transaction():
        state_file.keep_fact("kept", b"after")
        with state_file.transaction():
            state_file.keep_fact("inner", b"x")
        assert state_file.fact("inner") == b"x"
        raise ZeroDivisionError
    assert state_file.fact("kept") == b"before"
    assert state_file.fact("inner") is None


def test_inner_failure_ends_the_outer_transaction(state_file: StateFile) -> None:
    with contextlib.suppress(ZeroDivisionError), state_file.transaction():
        state_file.keep_fact("outer", b"x")
        with state_file.transaction():
            raise ZeroDivisionError
    assert state_file.fact("outer") is None


def test_failed_commit_leaves_no_transaction_open(state_file: StateFile) -> None:
    """A deferred constraint fails at COMMIT, which is where a full disk may show too."""
    with state_file.transaction() as connection:
        connection.execute("CREATE TABLE child (name TEXT REFERENCES facts (name) DEFERRABLE INITIALLY DEFERRED)")
    state_file.rows("PRAGMA foreign_keys=ON")

    def write() -> None:
        with state_file.transaction() as connection:
            state_file.keep_fact("kept", b"x")
            connection.execute("INSERT INTO child VALUES ('nobody')")

    with pytest.raises(sqlite3.IntegrityError):
        write()
    assert state_file.fact("kept") is None
    state_file.keep_fact("kept", b"y")
    assert state_file.fact("kept") == b"y"


def test_waiting_threads_hear_of_commits_only(state_file: StateFile) -> None:
    heard: list[bytes | None] = []
    ready = threading.Event()

    def wait() -> None:
        with state_file.changed:
            ready.set()
            state_file.changed.wait(20)
            heard.append(state_file.fact("name"))

    waiting = threading.Thread(target=wait)
    waiting.start()
    ready.wait(20)
    with contextlib.suppress(ZeroDivisionError), state_file.transaction():
        state_file.keep_fact("name", b"undone")
        raise ZeroDivisionError
    with state_file.transaction():
        state_file.keep_fact("name", b"half")
        state_file.keep_fact("name", b"whole")
    waiting.join(20)
    assert heard == [b"whole"]


def test_threads_take_turns(state_file: StateFile) -> None:
    def count() -> None:
        for _ in range(50):
            with state_file.transaction():
                state_file.keep_fact("count", str(int(state_file.fact("count") or b"0") + 1).encode())

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state_file.fact("count") == b"200"


def test_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "coordinator.sqlite").write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"coordinator.sqlite can't be used \(file is not a database\)"):
            StateFile(tmp_path)
