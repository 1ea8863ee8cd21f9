"""The folder of what was fetched: a DICOM folder with tables, which nothing but its files is needed to read.

    instances/STUDY/SERIES/INSTANCE.dcm   as the server sent them
    instances-CHOICE.csv                  which instances a query and a table choose, and by which row
    labels-CONTENT.csv                    those with their labels, as `kind = "dicom"` reads it
    SHA256SUMS                            a line for each file that is whole, as `sha256sum -c` reads it

A file counts when its digest stands in SHA256SUMS and is that of its bytes; so nothing that a kill, a full disk or a
power cut leaves does. Tables are named by what they were made of: another query, or a corrected label, makes another.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mple.data.dicomweb.key_table import KEYS, MOST_TABLE_BYTES, KeyRow, is_uid
from mple.data.dicomweb.search import Chosen, Instance
from mple.data.dicomweb.source import DicomWebSource
from mple.data.images import DataError
from mple.data.names import shown
from mple.data.tables import read_table
from mple.disk.bounded import UnsoundFileError, lines_bounded
from mple.disk.json_records import canonical_json
from mple.disk.locks import locked
from mple.disk.private import make_private, shared_by
from mple.disk.scarcity import open_patiently
from mple.disk.whole_files import file_sha256, write_whole

SUMS = "SHA256SUMS"
_NEW_LINE = "\n"
_LINE = re.compile(rb"([0-9a-f]{64})  ([\w./-]+)\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """All that decides which instances are meant."""

    url: str
    query: tuple[str, ...]
    instances: str
    instance_numbers: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...] | None
    """Keys of each row of the table, in its order; None without a table."""

    @classmethod
    def of(cls, source: DicomWebSource, rows: Sequence[KeyRow] | None) -> "Choice":
        """What a source and its table choose."""
        keys = None if rows is None else tuple(tuple(row.keys.get(name, "") for name in KEYS) for row in rows)
        return cls(
            url=source.url.rstrip("/"),
            query=source.query,
            instances=source.instances,
            instance_numbers=source.instance_numbers,
            rows=keys,
        )

    @property
    def file(self) -> str:
        """Name of its table."""
        return f"instances-{hashlib.sha256(canonical_json(self)).hexdigest()[:12]}.csv"


class Cache:
    """An open cache, to this process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        lines = _lines(folder / SUMS)
        self._ends_well = not lines or lines[-1].endswith(b"\n")
        found = filter(None, map(_LINE.fullmatch, lines))
        self._sums = {match[2].decode(): match[1].decode() for match in found}  # the last line of each counts

    def path(self, one: Instance) -> Path:
        """Where an instance lies, or will."""
        return self.folder / _file(one)

    def digest(self, one: Instance) -> str | None:
        """The digest that was noted when an instance was fetched, in hexadecimal."""
        return self._sums.get(_file(one))

    def has(self, one: Instance) -> bool:
        """Whether an instance is here as it was fetched."""
        return self._is_whole(_file(one))

    def keep(self, one: Instance, part: Path) -> None:
        """Give a fetched file its name, and note its digest."""
        path = self.path(one)
        make_private(path.parent)
        digest = file_sha256(part).hex()
        os.replace(part, path)
        self._note(_file(one), digest)

    def chosen(self, choice: Choice) -> list[Chosen] | None:
        """What was chosen when this was last asked of the server; None where it was not, or the table is another."""
        if not self._is_whole(choice.file):
            return None
        found = []
        needed = KEYS if choice.rows is None else (*KEYS, "row")
        for row in read_table(self.folder / choice.file, needed, (), most_bytes=MOST_TABLE_BYTES):
            keys = {name: row.cells[name] for name in KEYS}
            if not all(is_uid(keys[name]) for name in KEYS[:3]):
                return None
            found.append(Chosen(Instance(keys=keys), int(row.cells["row"]) if choice.rows is not None else None))
        return found

    def note_chosen(self, choice: Choice, chosen: Sequence[Chosen]) -> None:
        """Keep what was chosen."""
        has_rows = choice.rows is not None
        header = [*KEYS, "row"] if has_rows else list(KEYS)
        lines = [[*(one.instance.keys[name] for name in KEYS), *([one.row] if has_rows else [])] for one in chosen]
        content = _csv([header, *lines])
        write_whole(self.folder / choice.file, content)
        self._note(choice.file, hashlib.sha256(content).hexdigest())

    def label_table(self, rows: Sequence[KeyRow], chosen: Sequence[Chosen]) -> Path:
        """The table of the files with what their rows say beside keys."""
        others = list(rows[0].others)
        lines = [[_file(one.instance), *(rows[one.row or 0].others[name] for name in others)] for one in chosen]
        content = _csv([["file", *others], *lines])
        path = self.folder / f"labels-{hashlib.sha256(content).hexdigest()[:12]}.csv"
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)
        return path

    def _is_whole(self, file: str) -> bool:
        noted, path = self._sums.get(file), self.folder / file
        return noted is not None and path.is_file() and file_sha256(path).hex() == noted

    def _note(self, file: str, digest: str) -> None:
        with open(self.folder / SUMS, "ab", opener=lambda path, flags: open_patiently(path, flags, 0o600)) as sums:
            sums.write(f"{'' if self._ends_well else _NEW_LINE}{digest}  {file}{_NEW_LINE}".encode())
        self._ends_well = True
        self._sums[file] = digest


@contextmanager
def opened(folder: Path, wait: Callable[[], object]) -> Iterator[Cache]:
    """A cache, made at first use; whoever comes second waits by `wait`.

    Raises DataError: the folder can't be one, or is not this user's alone to write to.
    """
    try:
        make_private(folder)
        shared = shared_by(folder)
        if shared is not None:
            raise DataError(f"the cache {folder} can't be used: {'; mend it by: '.join(shared)}")
        with locked(folder, wait):
            yield Cache(folder)
    except OSError as fault:
        raise DataError(f"the cache {shown(folder)} can't be used: {fault.strerror}") from fault


def _file(one: Instance) -> str:
    return f"instances/{'/'.join(one.uids)}.dcm"


def _csv(lines: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def _lines(path: Path) -> list[bytes]:
    """With their ends; the last one may have been cut off."""
    try:
        return list(lines_bounded(path, MOST_TABLE_BYTES))
    except FileNotFoundError:
        return []
    except UnsoundFileError as fault:
        raise DataError(str(fault)) from None
