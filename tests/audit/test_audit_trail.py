"""The writing side: lines that go on after restarts, torn tails, other processes and full disks."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, AuditTrail, audit, audit_head, close_audit, open_audit, verify
from mple.audit.entry import FIRST_PREVIOUS
from mple.audit.verification import Damage
from mple.disk.damage import DamagedError

WRITER = """
import sys
from pathlib import Path
from mple.audit import audit, open_audit
open_audit(Path(sys.argv[1]), "site/north")
for number in range(int(sys.argv[2])):
    audit("local", "beat", "ok", number=number)
"""


@pytest.fixture(autouse=True)
def closed_in_the_end() -> Iterator[None]:
    yield
    close_audit()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE_NAME).read_text(encoding="ascii").splitlines()]


def test_without_an_open_trail_nothing_happens() -> None:
    audit("local", "node_start", "ok")
    assert audit_head() is None


def test_a_line_says_who_what_and_how_it_ended(tmp_path: Path) -> None:
    open_audit(tmp_path, "compute/gpu")
    audit("site/north", "feed_open", "ok", samples=3, share=0.5, again=True, text="ä\n\u2028")
    (line,) = lines(tmp_path)
    assert line.pop("time")
    assert line == {
        "sequence": 1,
        "node": "compute/gpu",
        "who": "site/north",
        "what": "feed_open",
        "result": "ok",
        "facts": {"samples": 3, "share": 0.5, "again": True, "text": "ä\\n\\u2028"},
        "previous": FIRST_PREVIOUS,
    }
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_facts_are_bounded_and_finite(tmp_path: Path) -> None:
    open_audit(tmp_path, "compute/gpu")
    audit("local", "odd", "ok", text="x" * 100_000, number=float("nan"))
    facts = lines(tmp_path)[0]["facts"]
    assert facts == {"text": "x" * 476 + "... (100,000 characters)", "number": "nan"}
    assert verify(tmp_path / FILE_NAME).sound


def test_a_file_made_open_to_others_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(0o644)
    open_audit(tmp_path, "compute/gpu")
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_second_process_goes_on_with_the_chain(tmp_path: Path) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", WRITER, tmp_path, "2"], check=True)
    verdict = verify(tmp_path / FILE_NAME)
    assert verdict.sound
    assert verdict.lines == 6


def test_processes_and_threads_side_by_side_make_one_chain(tmp_path: Path) -> None:
    open_audit(tmp_path, "site/north")
    other = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, "40"])

    def write() -> None:
        for number in range(20):
            audit("local", "beat", "ok", number=number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    verdict = verify(tmp_path / FILE_NAME)
    assert (verdict.sound, verdict.lines) == (True, 120)


@pytest.mark.parametrize("cut", [1, 2, 50, 10**9], ids=["newline", "brace", "half", "nearly all"])
def test_a_torn_line_is_moved_aside_and_its_loss_is_an_event(tmp_path: Path, cut: int) -> None:
    path = tmp_path / FILE_NAME
    open_audit(tmp_path, "site/north")
    audit("local", "first", "ok")
    whole = path.stat().st_size
    audit("local", "second", "ok")
    size = max(whole + 1, path.stat().st_size - cut)
    os.truncate(path, size)
    torn = path.read_bytes()[whole:]
    assert verify(path).damage is Damage.TORN
    open_audit(tmp_path, "site/north")
    audit("local", "third", "ok")
    assert [line["what"] for line in lines(tmp_path)] == ["first", "torn_line", "third"]
    assert lines(tmp_path)[1]["facts"] == {"moved_to": "audit.torn-2", "bytes": len(torn)}
    assert (tmp_path / "audit.torn-2").read_bytes() == torn
    assert verify(path).sound


def test_a_loss_is_recorded_even_if_the_process_died_right_after_the_move(tmp_path: Path) -> None:
    open_audit(tmp_path, "site/north")
    audit("local", "first", "ok")
    close_audit()
    (tmp_path / "audit.torn-2").write_bytes(b'{"sequ')
    open_audit(tmp_path, "site/north")
    open_audit(tmp_path, "site/north")
    assert [line["what"] for line in lines(tmp_path)] == ["first", "torn_line"]


def test_a_trail_whose_last_line_was_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    open_audit(tmp_path, "site/north")
    audit("local", "first", "ok")
    (tmp_path / FILE_NAME).write_bytes(b"rubbish\n")
    with pytest.raises(ValueError, match="is damaged in line 1"):
        open_audit(tmp_path, "site/north")


def test_a_line_longer_than_what_is_read_at_once_is_found(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / FILE_NAME, "site/north")
    trail.append("local", "long", "ok", **{f"fact{number}": "ü" * 500 for number in range(40)})
    trail.append("local", "long", "ok", **{f"fact{number}": "ü" * 500 for number in range(40)})
    trail.close()
    open_audit(tmp_path, "site/north")
    audit("local", "short", "ok")
    assert verify(tmp_path / FILE_NAME).lines == 3


def test_a_write_that_fails_raises_and_leaves_a_sound_trail(tmp_path: Path) -> None:
    """With a limit on the size of files, which the system enforces as a full disk does."""
    open_audit(tmp_path, "site/north")
    audit("local", "first", "ok")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FILE_NAME).stat().st_size + 20, before[1]))
    try:
        with pytest.raises(OSError, match="the audit trail can't be written") as caught:
            audit("local", "second", "ok")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert caught.value.filename == str(tmp_path / FILE_NAME)
    assert verify(tmp_path / FILE_NAME).sound
    audit("local", "third", "ok")
    assert [line["what"] for line in lines(tmp_path)] == ["first", "third"]
    assert verify(tmp_path / FILE_NAME).sound


@pytest.mark.parametrize("damage", ["bit", "zeros", "line left out"])
def test_a_node_does_not_go_on_with_a_damaged_trail(tmp_path: Path, damage: str) -> None:
    trail = AuditTrail(tmp_path / FILE_NAME, "site/north")
    for number in range(60):
        trail.append("local", "beat", "ok", number=number)
    trail.close()
    whole = (tmp_path / FILE_NAME).read_bytes()
    lines = whole.splitlines(keepends=True)
    at = whole.index(b'"number":30') + 9
    changed = {
        "bit": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "zeros": whole[:at] + bytes(4096) + whole[at + 4096 :],
        "line left out": b"".join(lines[:20] + lines[21:]),
    }
    (tmp_path / FILE_NAME).write_bytes(changed[damage])
    with pytest.raises(DamagedError, match=r"audit\.jsonl is damaged in line") as caught:
        open_audit(tmp_path, "site/north")
    assert "begin a new trail" in caught.value.fix
    (tmp_path / FILE_NAME).write_bytes(whole)
    open_audit(tmp_path, "site/north")
    close_audit()
