"""The coordinator's memory: one SQLite file. Whatever a restart needs is here or in the layer files.

One connection under one re-entrant lock: threads take turns, and what one transaction writes, state and events
together, is on the disk before anybody is told of it.

Each transaction leaves a checksum of all that the file holds, and its own number, which `coordinator.count` beside it
has, too: a start notices a changed bit, and a file that is older than what this coordinator has told the others. The
checksum is made of a sum over the rows' digests, which each change of a row keeps up by triggers: a transaction costs
what it writes, however much the file holds. A start adds up all rows anew.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mple.disk.damage import DamagedError
from mple.disk.scarcity import open_patiently, scarcity_of
from mple.disk.storage_faults import storage_fault_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parties (label TEXT PRIMARY KEY, profile BLOB NOT NULL, certificate BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, audience TEXT NOT NULL, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS envelopes (sender TEXT, recipient TEXT, kind INTEGER, envelope BLOB NOT NULL,
    PRIMARY KEY (sender, recipient, kind));
CREATE TABLE IF NOT EXISTS key_layers (site TEXT NOT NULL, epoch INTEGER NOT NULL, sha256 BLOB NOT NULL UNIQUE,
    header BLOB NOT NULL, released INTEGER NOT NULL, PRIMARY KEY (site, epoch));
"""

_TABLES = ("facts", "parties", "events", "envelopes", "key_layers")
_SEAL = "seal"
"""The fact with number and checksum of the newest transaction."""
_COUNT = struct.Struct("<Q")
_SUM_BYTES = 32
_MODULUS = 1 << (8 * _SUM_BYTES)
_FIX = (
    "put the newest copy back, with its -wal and -shm where it has them, and start the coordinator again with the same "
    "command; to begin a new run instead, name another state folder"
)


class StateFile:
    """`coordinator.sqlite` in a state folder, readable by its owner only: in escrow custody it holds a secret."""

    def __init__(self, folder: Path) -> None:
        """Open the file, making it at first use, in a folder that the caller has claimed.

        Raises DamagedError: it is damaged, or older than what it once held.
        """
        path = folder / "coordinator.sqlite"
        self._count = _Count(folder / "coordinator.count")
        try:
            self._connection, self._number = _open(path, self._count.read())
        except sqlite3.DatabaseError as fault:
            self._count.close()
            if storage_fault_of(fault) is not None or scarcity_of(fault) is not None:
                raise
            raise DamagedError(path, f"can't be used ({fault})", _FIX) from None
        except BaseException:
            self._count.close()
            raise
        self._sum = _RowSum(self._connection)
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        """Notified after each transaction; waiting on it lets other threads in."""
        self.after_commit: list[Callable[[], None]] = []
        """Called after each transaction, the lock still held; they must not block."""

    def __enter__(self) -> StateFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._connection.close()
            self._count.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what the block writes; a transaction within another is part of it."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                with self._sum.undone_by_a_fault():
                    yield self._connection
                    seal = _sealed(self._connection, self._number + 1, self._sum.total)
                    self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_SEAL, seal))
                    self._connection.execute("COMMIT")
                self._number += 1
                self._count.write(self._number)
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self.changed.notify_all()
            for tell in self.after_commit:
                tell()

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def fact(self, name: str) -> bytes | None:
        """A named value."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return as_bytes(rows[0][0]) if rows else None

    def keep_fact(self, name: str, value: bytes) -> None:
        """Set a named value."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def scrub(self) -> None:
        """Leave no copy of deleted values in the write-ahead log; the file itself has them overwritten already."""
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def as_bytes(value: object) -> bytes:
    """A BLOB column's value."""
    assert isinstance(value, bytes), type(value)
    return value


def as_int(value: object) -> int:
    """An INTEGER column's value."""
    assert isinstance(value, int), type(value)
    return value


def as_text(value: object) -> str:
    """A TEXT column's value."""
    assert isinstance(value, str), type(value)
    return value


class _Count:
    """Number of the newest transaction that others may know of, in a file beside the database. It stays open: a
    transaction that is on the disk must not fail for want of a descriptor to count it with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_patiently(path, os.O_RDWR | os.O_CREAT, 0o600)

    def close(self) -> None:
        """Give the file up."""
        os.close(self._file)

    def read(self) -> int:
        """The number; 0 of a file that is new. Raises DamagedError: it is damaged."""
        content = os.pread(self._file, 64, 0)
        if not content:
            return 0
        if len(content) <= _COUNT.size or content != _with_crc(content[: _COUNT.size]):
            fix = "put it back, or remove it if coordinator.sqlite beside it is the newest: nobody can tell without it"
            raise DamagedError(self._path, "is damaged", fix)
        return int(_COUNT.unpack(content[: _COUNT.size])[0])

    def write(self, number: int) -> None:
        """Have a number on the disk."""
        os.pwrite(self._file, _with_crc(_COUNT.pack(number)), 0)
        os.fdatasync(self._file)


def _with_crc(content: bytes) -> bytes:
    return content + struct.pack("<I", zlib.crc32(content))


def _open(path: Path, known: int) -> tuple[sqlite3.Connection, int]:
    """The file, and the number of its newest transaction. Where it raises, no write-ahead log is left behind, which
    would be taken for that of the copy that is put in place."""
    if known and not (path.exists() and path.stat().st_size):
        raise DamagedError(path, f"is gone: it has held {known} transactions", _FIX)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.executescript(_SCHEMA)
        return connection, _checked(connection, path, known)
    except BaseException:
        connection.close()
        raise


def _checked(connection: sqlite3.Connection, path: Path, known: int) -> int:
    """The number of the newest transaction, of a file whose content is as that left it."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(path, f"is damaged ({verdict})", _FIX)
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (_SEAL,)).fetchone()
    sealed = b"" if row is None else as_bytes(row[0])
    number = _COUNT.unpack(sealed[: _COUNT.size])[0] if sealed else 0
    held = any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in _TABLES)  # noqa: S608
    if sealed != (_sealed(connection, number, _sum_of(connection)) if held else b""):
        raise DamagedError(path, "is damaged: its checksum is another", _FIX)
    if number < known:
        raise DamagedError(path, f"is an older copy: it has {number} of at least {known} transactions", _FIX)
    return int(number)


def _sealed(connection: sqlite3.Connection, number: int, total: int) -> bytes:
    """The number of a transaction, and the SHA-256 of it, of the tables' definitions and of the sum over all rows."""
    digest = hashlib.sha256(_COUNT.pack(number))
    for (definition,) in connection.execute("SELECT sql FROM sqlite_master ORDER BY name"):
        digest.update(_content(definition))
    digest.update(total.to_bytes(_SUM_BYTES, "little"))
    return _COUNT.pack(number) + digest.digest()


class _RowSum:
    """The sum of the digests of all rows, but for the seal's, modulo 2^256: in no order, so that a row's change is one
    digest less and one more. Its triggers are the connection's own and lie in no file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.total = _sum_of(connection)
        connection.create_function("row_added", -1, self._added, deterministic=False)
        connection.create_function("row_gone", -1, self._gone, deterministic=False)
        connection.execute("PRAGMA recursive_triggers=ON")  # or what INSERT OR REPLACE replaces would go unseen
        for table in _TABLES:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for change, calls in {"INSERT": ("NEW",), "DELETE": ("OLD",), "UPDATE": ("OLD", "NEW")}.items():
                sums = "".join(
                    f"SELECT {'row_gone' if row == 'OLD' else 'row_added'}('{table}', "
                    f"{', '.join(f'{row}.{column}' for column in columns)}); "
                    for row in calls
                )
                connection.execute(
                    f"CREATE TEMP TRIGGER {table}_{change} AFTER {change} ON main.{table} BEGIN {sums} END"
                )

    @contextmanager
    def undone_by_a_fault(self) -> Iterator[None]:
        """The sum stands as before when the block fails."""
        before = self.total
        try:
            yield
        except BaseException:
            self.total = before
            raise

    def _added(self, *row: object) -> None:
        self.total = (self.total + _row_digest(row)) % _MODULUS

    def _gone(self, *row: object) -> None:
        self.total = (self.total - _row_digest(row)) % _MODULUS


def _sum_of(connection: sqlite3.Connection) -> int:
    total = 0
    for table in _TABLES:
        for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608
            total += _row_digest((table, *row))
    return total % _MODULUS


def _row_digest(row: Sequence[object]) -> int:
    """Of a table's name and the values of one of its rows."""
    if row[:2] == ("facts", _SEAL):
        return 0
    return int.from_bytes(hashlib.sha256(b"".join(map(_content, row))).digest(), "little")


def _content(value: object) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode()
    return f"{type(value).__name__} {len(content)} ".encode() + content
