"""The state file: all or nothing, one owner, kept over restarts."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from coordinator.memory import state_file as state_file_module
from coordinator.memory.state_file import StateFile
from mple.disk.damage import DamagedError


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
        with pytest.raises(DamagedError, match=r"coordinator.sqlite can't be used \(file is not a database\)"):
            StateFile(tmp_path)


def some(folder: Path) -> bytes:
    """A file that was closed in good order, so that all of it is in one place."""
    with StateFile(folder) as file:
        with file.transaction() as connection:
            file.keep_fact("state", b"training" * 30)
            connection.execute("INSERT INTO events VALUES (1, 'all', ?)", (b"the first event" * 20,))
            connection.execute("INSERT INTO parties VALUES ('site/north', ?, ?)", (b"profile", b"certificate" * 90))
        file.keep_fact("name", b"value")
        file.scrub()
    return (folder / "coordinator.sqlite").read_bytes()


def test_what_a_transaction_left_is_found_again(tmp_path: Path) -> None:
    some(tmp_path)
    with StateFile(tmp_path) as file:
        assert file.fact("state") == b"training" * 30
        file.keep_fact("more", b"x")
    with StateFile(tmp_path) as file:
        assert file.fact("more") == b"x"


def test_every_bit_of_what_the_file_holds_counts(tmp_path: Path) -> None:
    whole = some(tmp_path)
    held = [whole.index(text) for text in (b"training", b"the first event", b"profile", b"certificate", b"site/north")]
    for place in [*held, held[0] + 100, held[1] + 77, whole.index(b"seal") + 6, whole.index(b"value")]:
        for bit in (1, 64):
            changed = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
            (tmp_path / "coordinator.sqlite").write_bytes(changed)
            with pytest.raises(DamagedError, match=r"coordinator\.sqlite"):
                StateFile(tmp_path)
    (tmp_path / "coordinator.sqlite").write_bytes(whole)
    with StateFile(tmp_path) as file:
        assert file.fact("name") == b"value"


@pytest.mark.parametrize("damage", ["half", "page", "zeros", "gone", "empty", "older"])
def test_a_damaged_or_older_file_is_refused_and_the_right_one_goes_on(tmp_path: Path, damage: str) -> None:
    older = some(tmp_path)
    with StateFile(tmp_path) as file:
        file.keep_fact("name", b"newest")
    path = tmp_path / "coordinator.sqlite"
    whole = path.read_bytes()
    middle = whole[:8192] + bytes(4096) + whole[12288:]
    damaged = {"half": whole[: len(whole) // 2], "page": whole[:-4096], "zeros": middle, "older": older}
    path.write_bytes(damaged.get(damage, b""))
    if damage == "gone":
        path.unlink()
    with pytest.raises(DamagedError, match=r"coordinator\.sqlite") as caught:
        StateFile(tmp_path)
    assert "put the newest copy back" in caught.value.fix
    path.write_bytes(whole)
    with StateFile(tmp_path) as file:
        assert file.fact("name") == b"newest"


def test_a_lost_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    """As of a process that was killed: what the log held is not in the file itself."""
    some(tmp_path)
    with StateFile(tmp_path) as file:
        file.keep_fact("name", b"newest")
        killed = tmp_path / "killed"
        killed.mkdir()
        for path in tmp_path.glob("coordinator.*"):
            (killed / path.name).write_bytes(path.read_bytes())
    shutil.copytree(killed, tmp_path / "whole")
    with StateFile(tmp_path / "whole") as whole:
        assert whole.fact("name") == b"newest"
    (killed / "coordinator.sqlite-wal").unlink()
    with pytest.raises(DamagedError, match="is an older copy: it has 2 of at least 3 transactions"):
        StateFile(killed)


def test_a_process_that_died_before_it_counted_goes_on(tmp_path: Path) -> None:
    some(tmp_path)
    count = (tmp_path / "coordinator.count").read_bytes()
    with StateFile(tmp_path) as file:
        file.keep_fact("name", b"newest")
    (tmp_path / "coordinator.count").write_bytes(count)
    with StateFile(tmp_path) as file:
        assert file.fact("name") == b"newest"
    (tmp_path / "coordinator.count").write_bytes(count[:-1])
    with pytest.raises(DamagedError, match=r"coordinator\.count is damaged"):
        StateFile(tmp_path)


def test_every_kind_of_change_is_in_the_checksum(tmp_path: Path) -> None:
    """A start adds up all rows anew, and refuses a file whose running sum went another way."""
    with StateFile(tmp_path) as file:
        with file.transaction() as connection:
            connection.executemany(
                "INSERT INTO events VALUES (?, 'all', ?)", [(number, b"event") for number in range(1, 9)]
            )
            connection.execute("INSERT INTO envelopes VALUES ('a', 'b', 1, x'01')")
            connection.execute("INSERT OR IGNORE INTO envelopes VALUES ('a', 'b', 1, x'02')")
            connection.execute("INSERT INTO key_layers VALUES ('north', 1, x'aa', x'bb', 0)")
        with contextlib.suppress(ZeroDivisionError), file.transaction() as connection:
            connection.execute("DELETE FROM events")
            raise ZeroDivisionError
        with file.transaction() as connection:
            connection.execute("UPDATE envelopes SET envelope = x'' WHERE recipient = 'b'")
            connection.execute("UPDATE key_layers SET released = 1")
            connection.execute("DELETE FROM events WHERE sequence > 5")
            connection.execute("INSERT OR REPLACE INTO events VALUES (5, 'all', x'00')")
        file.keep_fact("name", b"first")
        file.keep_fact("name", b"second")
    with StateFile(tmp_path) as file:
        assert len(file.rows("SELECT * FROM events")) == 5
        assert file.fact("name") == b"second"


def test_a_transaction_costs_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[object] = []
    row_digest = state_file_module._row_digest
    monkeypatch.setattr(state_file_module, "_row_digest", lambda row: (hashed.append(row), row_digest(row))[1])
    with StateFile(tmp_path) as file:
        for rows in (10, 1000):
            with file.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO events VALUES (?, 'all', x'')", [(n,) for n in range(rows)]
                )
            hashed.clear()
            file.keep_fact("name", b"value")
            file.keep_fact("name", b"value")
            assert {row[1] for row in hashed} == {"name", "seal"}  # type: ignore[index]


def test_a_damaged_index_is_noticed(tmp_path: Path) -> None:
    """Parties are found by an index of their labels, which is no row."""
    whole = some(tmp_path)
    places = [at for at in range(len(whole)) if whole.startswith(b"site/north", at)]
    assert len(places) == 2
    for place in places:
        (tmp_path / "coordinator.sqlite").write_bytes(whole[:place] + b"S" + whole[place + 1 :])
        with pytest.raises(DamagedError, match=r"coordinator\.sqlite is damaged"):
            StateFile(tmp_path)
