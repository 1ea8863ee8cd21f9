"""The ledger as CSV and Parquet: the same rows, typed, and a way out where the library is missing."""

from __future__ import annotations

import csv
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mple.report import Summary, ledger_export
from mple.report.ledger_export import MissingLibraryError, export_ledger
from tests.support.finished_run import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return finished_run(tmp_path_factory.mktemp("export") / "run")


def rows_of(summary: Summary) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(summary.folder.ledger)) as ledgers:
        return ledgers.execute("SELECT * FROM messages ORDER BY time_unix_ns").fetchall()


def test_both_files_hold_every_row(run: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_export, "_ROWS", 7)  # several row groups
    count = export_ledger(run, csv=tmp_path / "ledger.csv", parquet=tmp_path / "ledger.parquet")
    rows = rows_of(run)
    assert count == len(rows) == 32
    table = parquet.read_table(tmp_path / "ledger.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    assert parquet.ParquetFile(tmp_path / "ledger.parquet").num_row_groups == 5
    with (tmp_path / "ledger.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == table.column_names
    assert [tuple(line) for line in lines] == [tuple(map(str, row)) for row in rows]


def test_columns_are_typed_and_the_run_is_named(run: Summary, tmp_path: Path) -> None:
    export_ledger(run, parquet=tmp_path / "ledger.parquet")
    schema = parquet.read_schema(tmp_path / "ledger.parquet")
    assert schema.metadata[b"run_id"] == run.plan.run_id.encode()
    assert schema.metadata[b"plan_sha256"] == run.plan.sha256().hex().encode()
    for field in schema:
        if field.name.endswith(("_bytes", "_ns")):
            assert field.type == pyarrow.int64(), field
        elif field.name in ("idx", "samples", "resent_samples"):
            assert field.type == pyarrow.int32(), field
        else:
            assert pyarrow.types.is_dictionary(field.type) or field.name == "call_id", field


def test_without_the_library_the_way_out_is_named(
    run: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'mple\[parquet\]'"):
        export_ledger(run, csv=tmp_path / "ledger.csv", parquet=tmp_path / "ledger.parquet")
    assert list(tmp_path.iterdir()) == []
    assert export_ledger(run, csv=tmp_path / "ledger.csv") == 32
