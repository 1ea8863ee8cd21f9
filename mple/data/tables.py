"""CSV tables: one reader for all, so that every table is held to the same rules.

Commas, semicolons or tabs part the cells, whichever gives the header its columns; quotes are "; the text is UTF-8, with
or without a mark at its start.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mple.data.images import DataError
from mple.data.names import shown

_SEPARATORS = (",", ";", "\t")
_QUOTES = "'`´‘’‚“”„«»‹›"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    where: str
    """The file and the line's number, for messages."""
    cells: dict[str, str]
    """By column, without blanks around; a column that the table lacks has none."""


def read_table(
    path: Path, needed: Sequence[str], optional: Sequence[str], *, most_bytes: int, others: bool = False
) -> Iterator[Row]:
    """The rows of a table that has these columns and no others, unless `others` are allowed, in any order; lines
    without any text are passed over.

    Raises DataError: there is no such file, it is too large, no text or no CSV; a column is missing, there twice or
    unknown; a row has more or fewer cells than the header, or a cell a character that can't be printed.
    """
    wanted = ",".join(needed) + "".join(f"[,{name}]" for name in optional)
    text = _text(path, wanted, most_bytes)
    header, separator = _header(path, text, needed, wanted)
    for name in header:
        if not others and name not in (*needed, *optional):
            raise DataError(
                f"{path} has the column {name!r}, which means nothing here; needs {wanted}: rename it or take it away"
            )
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        next(lines)
        for cells in lines:
            row = [cell.strip() for cell in cells]
            if any(row):
                yield _row(f"{path}, line {lines.line_num}", header, row)
    except csv.Error as fault:
        raise DataError(f"{path} is no CSV: {fault}") from None


def table_columns(path: Path, needed: Sequence[str], wanted: str, *, most_bytes: int) -> list[str]:
    """The columns of a table that has those that are needed, in its order; `wanted` says in words what it should have.

    Raises DataError: as `read_table`, of its header.
    """
    return _header(path, _text(path, wanted, most_bytes), needed, wanted)[0]


def _text(path: Path, wanted: str, most_bytes: int) -> str:
    if not path.is_file():
        raise DataError(f"no table at {path}; it needs the columns {wanted}")
    if path.stat().st_size > most_bytes:
        raise DataError(f"{path} has {path.stat().st_size} bytes; at most {most_bytes} are read")
    try:
        content = path.read_bytes()
        if content.startswith(_UTF_16):
            raise DataError(f"{path} is UTF-16; save it as CSV in UTF-8")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not UTF-8: {fault}; save it as CSV in UTF-8") from None
    except OSError as fault:
        raise DataError(f"{path} can't be read: {fault.strerror}") from None


def _header(path: Path, text: str, needed: Sequence[str], wanted: str) -> tuple[list[str], str]:
    found: list[str] = []
    for separator in _SEPARATORS:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except csv.Error as fault:
            raise DataError(f"{path} is no CSV: {fault}") from None
        header = [shown(cell.strip()) for cell in cells]
        if set(needed) <= set(header):
            twice = next((name for name in header if header.count(name) > 1), None)
            if twice is not None:
                raise DataError(f"{path} has two columns {twice!r}; take one away")
            return header, separator
        found = max(found, header, key=len)
    raise DataError(f"{path} has the columns {found}; needs {wanted}, parted by commas, semicolons or tabs")


def is_plain_cell(cell: str) -> bool:
    """Whether a cell, written as it is, comes back from `read_table`."""
    return cell.isprintable() and not _is_in_other_quotes(cell)


def _is_in_other_quotes(cell: str) -> bool:
    return len(cell) > 1 and cell[0] in _QUOTES and cell[-1] in _QUOTES


def _row(where: str, header: Sequence[str], row: Sequence[str]) -> Row:
    if len(row) != len(header):
        raise DataError(f"{where} has {len(row)} cells, the header {len(header)}; quote cells that hold the separator")
    for cell in row:
        if not cell.isprintable():
            raise DataError(f"{where}: {cell!a} has a character that can't be seen; write it anew")
        if _is_in_other_quotes(cell):
            raise DataError(f'{where}: {cell} is in other quotes than "; quote cells by that, or not at all')
    return Row(where, dict(zip(header, row, strict=True)))
