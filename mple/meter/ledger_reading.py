"""Reading a ledger that others may have made: a SQLite file with a schema, rows and pages of anybody's choice.

Such a file can hold a view in the place of the table, rows of other types, pages that refer to each other without end.
It is opened for reading only, its schema must be ours to the letter, and a query may take no more steps than a ledger
of its size needs.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mple.disk.bounded import open_regular
from mple.meter.ledger import INDEX, SCHEMA

_MOST_BYTES = 2 * 1024**3
"""Some 14 million messages."""
_MOST_TEXT_BYTES = 1024 * 1024
_MOST_TEXT, _MOST_WORDS = 200, 100
_TEXTS = ("node", "run", "phase", "peer", "direction", "method", "kind", "call_id", "key_ref")
_RANGES = {
    **dict.fromkeys(("idx", "samples", "resent_samples"), (0, 2**31 - 1)),
    **dict.fromkeys(("payload_bytes", "label_bytes", "serialized_bytes"), (0, 2**40)),
    "framed_bytes": (1, 2**40),
    "time_unix_ns": (0, 2**62),
}
_STEPS_AT_ONCE = 100_000
_LEAST_STEPS, _STEPS_A_BYTE = 20_000_000, 4


class LedgerFileError(ValueError):
    """A file is no ledger, or none that a node has written; the text names it."""


@contextmanager
def opened_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger, or several merged, to ask; nothing is written, not even beside it.

    Raises LedgerFileError: it is no ledger of this version, is damaged, or a query takes far more steps than its size
    explains, within the block too; UnsoundFileError: it is larger than 2 GiB; OSError: it is no regular file.
    """
    with open_regular(path, _MOST_BYTES) as file:
        left = _LEAST_STEPS + _STEPS_A_BYTE * file.seek(0, 2)

    def spent() -> bool:
        nonlocal left
        left -= _STEPS_AT_ONCE
        return left < 0

    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as ledger:
            ledger.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_TEXT_BYTES)
            ledger.set_progress_handler(spent, _STEPS_AT_ONCE)
            ledger.execute("PRAGMA trusted_schema=OFF")
            ledger.execute("PRAGMA cell_size_check=ON")
            schema = set(ledger.execute("SELECT type, name, sql FROM sqlite_master").fetchall())
            if not _table() <= schema <= _table() | _index():
                raise LedgerFileError(f"{path} is no ledger of this version of mple: it has other tables")
            yield ledger
    except sqlite3.Error as fault:
        raise LedgerFileError(f"{path} can't be read: {fault}; is it of another version of mple?") from None


def require_sound_rows(path: Path) -> None:
    """Look at every message, before anything rests on them: types and ranges are a node's, and there is one of a site.

    Raises LedgerFileError: they are not, or as `opened_ledger`; OSError, UnsoundFileError: as `opened_ledger`.
    """
    texts = [f"typeof({name}) != 'text' OR length({name}) > {_MOST_TEXT}" for name in _TEXTS]
    numbers = [
        f"typeof({name}) != 'integer' OR {name} NOT BETWEEN {low} AND {high}" for name, (low, high) in _RANGES.items()
    ]
    strange = " OR ".join([*texts, *numbers, "direction NOT IN ('sent', 'received')"])
    words = ", ".join(f"COUNT(DISTINCT {name})" for name in ("phase", "method", "kind"))
    with opened_ledger(path) as ledger:
        (odd,) = ledger.execute(f"SELECT COUNT(*) FROM messages WHERE {strange}").fetchone()  # noqa: S608
        if odd:
            raise LedgerFileError(f"{path} holds {odd:,} messages with values that no node writes")
        if max(ledger.execute(f"SELECT {words} FROM messages").fetchone()) > _MOST_WORDS:  # noqa: S608
            raise LedgerFileError(f"{path} holds more than {_MOST_WORDS} phases, methods or kinds of messages")
        if ledger.execute("SELECT 1 FROM messages WHERE node LIKE 'site/%' LIMIT 1").fetchone() is None:
            raise LedgerFileError(f"{path} holds no message of a site")


def _table() -> set[tuple[str, str, str]]:
    return _schema_of(SCHEMA)


def _index() -> set[tuple[str, str, str]]:
    return _schema_of(SCHEMA, INDEX)


def _schema_of(*statements: str) -> set[tuple[str, str, str]]:
    """As SQLite itself writes it down."""
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in statements:
            database.execute(statement)
        return set(database.execute("SELECT type, name, sql FROM sqlite_master").fetchall())
