"""The ledger: rows survive restarts and kills, writers do not get in each other's way, a failing disk is not silent."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mple.disk.damage import DamagedError
from mple.meter import Ledger, MessageFacts, MessageKind
from mple.meter.ledger import LedgerTotals
from tests.support.ledger_entries import RECEIVED, SENT, entry

FULL_DISK = """
import resource, sys, time
from pathlib import Path
from tests.support.ledger_entries import SENT, entry
from mple.meter import Ledger

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
ledger = Ledger(Path(sys.argv[1]), "site/north")
try:
    for number in range(1_000_000):
        ledger.record(entry(SENT, "call", number))
except OSError as fault:
    print(fault.strerror, number)
try:
    ledger.record(entry(SENT, "call", number))
except OSError as fault:
    print(fault.strerror, number)
    print(fault.filename)
ledger.close()
"""
KILLED = """
import sys, time
from pathlib import Path
from tests.support.ledger_entries import SENT, entry
from mple.meter import Ledger

ledger = Ledger(Path(sys.argv[1]), "site/north")
for number in range(100):
    ledger.record(entry(SENT, "call", number))
print("recorded", flush=True)
time.sleep(60)
"""


def rows(path: Path, query: str = "SELECT * FROM messages") -> list[tuple[object, ...]]:
    ledgers = sqlite3.connect(path)
    try:
        return ledgers.execute(query).fetchall()
    finally:
        ledgers.close()


def test_a_reopened_ledger_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "site/north") as ledger:
        ledger.record(entry(SENT, "a", size=95))
        ledger.record(entry(RECEIVED, "a", size=15))
    with Ledger(path, "site/north") as ledger:
        assert ledger.totals() == LedgerTotals(1, 1, 100, 20)
        ledger.record(entry(RECEIVED, "b", size=0))
        assert ledger.totals() == LedgerTotals(1, 2, 100, 25)
    assert rows(path, "SELECT call_id, direction, framed_bytes FROM messages") == [
        ("a", "sent", 100),
        ("a", "received", 20),
        ("b", "received", 5),
    ]


def test_a_row_has_all_that_was_entered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    facts = MessageFacts(
        MessageKind.DATA, payload_bytes=70, label_bytes=8, samples=4, key_ref="north:1:00ff", resent_samples=1
    )
    with Ledger(path, "site/north") as ledger:
        ledger.run = "run1"
        ledger.phase = "training"
        ledger.record(entry(SENT, "abc", 3, 90, facts, peer="compute/gpu", time_unix_ns=17))
        ledger.phase = "finished"
        ledger.record(entry(SENT, "abc", 4))
    first, second = rows(path)
    assert first == (
        *(17, "site/north", "run1", "training", "compute/gpu", "sent", "Feed", "data", "abc", 3),
        *(70, 8, 90, 95, 4, 1, "north:1:00ff"),
    )
    assert second[2:4] == ("run1", "finished")


def test_a_row_is_there_for_others_once_it_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "site/north") as ledger:
        for number in range(3):
            ledger.record(entry(SENT, "a", number))
            assert len(rows(path)) == number + 1


def test_eight_writers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    each = 400
    with Ledger(path, "site/north") as ledger:

        def write(name: str) -> None:
            for number in range(each):
                ledger.record(entry(SENT if number % 2 else RECEIVED, name, number, size=number))

        writers = [threading.Thread(target=write, args=(f"call{number}",)) for number in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        totals = ledger.totals()
    sums = rows(path, "SELECT COUNT(*), SUM(framed_bytes) FROM messages GROUP BY direction ORDER BY direction")
    assert sums == [(totals.messages_received, totals.bytes_received), (totals.messages_sent, totals.bytes_sent)]
    assert totals.messages_sent + totals.messages_received == 8 * each
    assert totals.bytes_sent + totals.bytes_received == 8 * sum(number + 5 for number in range(each))
    assert rows(path, "SELECT COUNT(*) FROM (SELECT DISTINCT call_id, idx FROM messages)") == [(8 * each,)]


def test_a_full_disk_is_raised_at_once_and_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    first, second, where = ended.stdout.splitlines()
    assert first == second
    assert first.startswith("the ledger can't be written: ")
    assert where == str(path)
    failed = int(first.rpartition(" ")[2])
    assert failed > 5
    assert rows(path, "SELECT idx FROM messages ORDER BY idx") == [(number,) for number in range(failed)]


def test_a_message_that_names_its_phase_is_entered_under_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "site/client") as ledger:
        ledger.phase = "training"
        ledger.record(entry(SENT, "a", facts=MessageFacts("labels", phase="online/conv3")))
        ledger.record(entry(SENT, "a", 1))
    assert rows(path, "SELECT phase FROM messages ORDER BY idx") == [("online/conv3",), ("training",)]


def test_a_failed_write_stays_to_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, "site/north")
    ledger.record(entry(SENT, "a"))
    rows(path, "DROP TABLE messages")
    for _ in range(2):
        with pytest.raises(OSError, match="the ledger can't be written: no such table"):
            ledger.record(entry(SENT, "b"))
    ledger.close()


def test_all_that_was_recorded_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "recorded\n"
    process.kill()
    process.communicate()
    with Ledger(path, "site/north") as ledger:
        assert ledger.totals().messages_sent == 100


def test_a_message_after_close_is_not_lost_silently(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "site/north")
    ledger.close()
    ledger.close()
    with pytest.raises(OSError, match="the ledger is closed"):
        ledger.record(entry(SENT, "late"))


def test_a_ledger_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path, "site/north").close()
    rows(path, "PRAGMA user_version=3")
    with pytest.raises(ValueError, match="has version 3, this program writes 2; use a new state folder"):
        Ledger(path, "site/north")


@pytest.mark.parametrize("damage", ["rubbish", "zeros in the middle", "half"])
def test_a_damaged_ledger_is_named_and_ends_nobodys_run(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, "site/north") as ledger:
        for index in range(300):
            ledger.record(entry(SENT, "call", index))
    whole = path.read_bytes()
    changed = {"rubbish": b"no database" * 400, "zeros in the middle": whole[:8192] + bytes(4096) + whole[12288:]}
    path.write_bytes(changed.get(damage, whole[: len(whole) // 2]))
    with pytest.raises(DamagedError, match=r"ledger\.sqlite is damaged") as caught:
        Ledger(path, "site/north")
    assert "move it aside" in caught.value.fix


def test_samples_of_a_run_are_those_of_all_splits(tmp_path: Path) -> None:
    kinds = ["data", "val_data", "test_data", "predict", "logits"]
    with Ledger(tmp_path / "ledger.sqlite", "site/north") as ledger:
        ledger.run = "r"
        for place, kind in enumerate(kinds):
            ledger.record(entry(SENT, "a", place, facts=MessageFacts(kind, samples=10**place), peer="compute/c"))
            ledger.record(entry(RECEIVED, "b", place, facts=MessageFacts(kind, samples=7), peer="compute/c"))
        assert ledger.samples("r", "compute/c", SENT) == 111
        assert ledger.samples("r", "compute/d", SENT) == ledger.samples("q", "compute/c", SENT) == 0
