"""Ledgers of strangers: what they may cost, and what of them reaches a spreadsheet."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mple.meter import Direction
from mple.meter.ledger import INDEX, SCHEMA
from mple.meter.ledger_reading import LedgerFileError, opened_ledger, require_sound_rows
from mple.meter.reconciliation import balance, export_csv
from tests.support.ledger_entries import book, entry
from tests.support.ledger_rows import ledger_row


def merged_of(path: Path, rows: int, **changes: object) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute(SCHEMA)
        database.execute(INDEX)
        database.executemany("INSERT INTO messages " + ledger_row(**changes).partition("messages ")[2], [()] * rows)
        database.commit()
    return path


def test_a_query_that_takes_more_than_its_size_explains_is_ended(tmp_path: Path) -> None:
    """Each of 20,000 messages has the same call and place: matching them takes the square of their number."""
    path = merged_of(tmp_path / "ledger.sqlite", 10_000)
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "INSERT INTO messages SELECT time_unix_ns, 'site/south', run, phase, peer, 'received', method, kind, "
            "call_id, idx, payload_bytes, label_bytes, serialized_bytes, framed_bytes, samples, resent_samples, "
            "key_ref FROM messages"
        )
        database.commit()
    require_sound_rows(path)
    with pytest.raises(LedgerFileError, match="interrupted"), opened_ledger(path) as ledger:
        ledger.execute(
            "SELECT SUM(a.idx) FROM messages a JOIN messages b ON a.call_id = b.call_id AND a.idx = b.idx"
        ).fetchall()


def test_pages_that_refer_to_each_other_end(tmp_path: Path) -> None:
    """Every child of the table's root is the root's first child: few pages, rows without number."""
    path = merged_of(tmp_path / "ledger.sqlite", 20_000)
    with closing(sqlite3.connect(path)) as database:
        size = database.execute("PRAGMA page_size").fetchone()[0]
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    content = bytearray(path.read_bytes())
    start = (root - 1) * size
    assert content[start] == 5, "an interior page of a table"
    cells = int.from_bytes(content[start + 3 : start + 5], "big")
    for cell in range(cells):
        at = start + int.from_bytes(content[start + 12 + 2 * cell : start + 14 + 2 * cell], "big")
        content[at : at + 4] = root.to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(LedgerFileError, match="can't be read"):
        require_sound_rows(path)


def test_an_honest_ledger_is_far_below_the_bound(tmp_path: Path) -> None:
    path = merged_of(tmp_path / "ledger.sqlite", 0)
    with closing(sqlite3.connect(path)) as database:
        values = [
            (number, node, direction, f"{number:032x}")
            for number in range(5_000)
            for node, direction in (("site/north", "sent"), ("compute/gpu", "received"))
        ]
        database.executemany(
            "INSERT INTO messages VALUES (?, ?, '', '', '', ?, 'Feed', 'data', ?, 0, 1, 0, 1, 6, 1, 0, '')", values
        )
        database.commit()
    require_sound_rows(path)
    assert balance(path).matched == 5_000


def test_no_cell_of_an_export_is_a_formula(tmp_path: Path) -> None:
    calls = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "fine"]
    path = book(tmp_path, "site/north", [entry(Direction.SENT, call, number) for number, call in enumerate(calls)])
    export_csv(path, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    shown = [line[header.index("call_id")] for line in lines]
    assert sorted(shown) == sorted(["'=1+1", "'+1", "'-1", "'@a", "'\\t=1", "'\\r=1", "fine"])
    assert {line[header.index("idx")] for line in lines} == {str(number) for number in range(len(calls))}
