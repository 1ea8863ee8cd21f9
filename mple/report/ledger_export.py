"""The merged ledger for other programs: CSV for any, Parquet with typed columns for data frames.

Both have the ledger's own columns, oldest message first; sizes are bytes, times nanoseconds since 1970 (UTC).
"""

from pathlib import Path
from typing import Any

from mple.disk.private import private_file
from mple.extras import missing_extra
from mple.meter.ledger_reading import opened_ledger
from mple.meter.reconciliation import export_csv
from mple.report.summary import Summary

_ROWS = 50_000
"""Of a row group, so that the memory needed does not grow with the run."""
_COUNTS = ("idx", "samples", "resent_samples")


class MissingLibraryError(ValueError):
    """An optional library is not installed; the text says how to get it."""


def export_ledger(summary: Summary, *, csv: Path | None = None, parquet: Path | None = None) -> int:
    """Write the merged ledger of a run as either or both, and return the number of messages.

    The CSV file has a header. Parquet has texts as dictionaries but for `call_id`, counts as int32, sizes and
    `time_unix_ns` as int64; run and plan hash in its metadata.

    Raises MissingLibraryError: parquet was asked for and pyarrow is not installed; OSError: the disk refuses.
    """
    merged = summary.folder.ledger
    if parquet is not None:
        _write_parquet(merged, parquet, {"run_id": summary.plan.run_id, "plan_sha256": summary.outcome.plan_sha256})
    if csv is not None:
        export_csv(merged, csv)
    with opened_ledger(merged) as ledgers:
        return int(ledgers.execute("SELECT COUNT(*) FROM messages").fetchone()[0])


def _write_parquet(merged: Path, out: Path, facts: dict[str, str]) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise MissingLibraryError(missing_extra("writing Parquet", "pyarrow", "parquet")) from None
    with opened_ledger(merged) as ledgers:
        rows = ledgers.execute("SELECT * FROM messages ORDER BY time_unix_ns")
        names = [column[0] for column in rows.description]
        texts = arrow.dictionary(arrow.int32(), arrow.string())

        def type_of(name: str) -> Any:
            if name.endswith(("_bytes", "_ns")):
                return arrow.int64()
            if name in _COUNTS:
                return arrow.int32()
            return arrow.string() if name == "call_id" else texts

        schema = arrow.schema([(name, type_of(name)) for name in names], metadata=facts)
        with parquet.ParquetWriter(private_file(out), schema, compression="zstd") as writer:
            while group := rows.fetchmany(_ROWS):
                columns = zip(*group, strict=True)
                arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
                writer.write_table(arrow.table(arrays, schema=schema))
