"""The table of labels of a set: which file is what and, if the table says so, of which split and which patient.

A column `label` has the class of each file. A table without one has a column for each label, for a task of several
labels: 1 there, 0 absent, -1 uncertain, which is unknown, and empty for what nothing is said of.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath

from mple.data.images import UNKNOWN, DataError
from mple.data.names import SPLIT_WORDS, label_names, says_nothing, split_named
from mple.data.tables import Row, read_table, table_columns

_MOST_BYTES = 1024**3
_FILE, _CLASS, _MORE = "file", "label", ("split", "patient")
_WANTED = "file,label[,split][,patient], or file and a column for each label"
_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": UNKNOWN, "-1.0": UNKNOWN}


class EmptyLabels(StrEnum):
    """What an empty cell says in a table with a column for each label."""

    UNKNOWN = "unknown"
    """Nothing: nobody has looked, so that the label is neither learned nor scored there."""
    ABSENT = "absent"
    """That the label is absent: a report that does not mention a finding takes it for absent, as of CheXpert."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """One row of a label table."""

    where: str
    """The table and the line's number, for messages."""
    file: str
    """Relative to the set's folder, and inside it."""
    label: str = ""
    """Name of the class; empty in a table with a column for each label."""
    labels: tuple[int, ...] = ()
    """1, 0 or `UNKNOWN` of each label of the table."""
    split: str | None
    """train, val or test; None where the table has no splits."""
    patient: str
    """Empty where the table has no patients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTable:
    """A whole table."""

    where: str
    """Its path, for messages."""
    rows: Sequence[LabelRow]
    labels: tuple[str, ...] = ()
    """Names of the labels, of which each has a column; empty in a table with a column `label`."""
    passed_over: tuple[str, ...] = ()
    """Columns that mean nothing here, beside stated labels."""


def read_label_table(path: Path, stated: tuple[str, ...] = (), empty: EmptyLabels = EmptyLabels.UNKNOWN) -> LabelTable:
    """All rows, of which each names another file.

    Of a table without a column `label` the labels are those of the stated names, and other columns are passed over;
    without stated names all columns but file, split and patient are labels, in their order.

    Raises DataError: as `read_table`; a cell is empty (a column `split` may be so as a whole), a split has another
    name, a file leads out of the folder or is there twice, there is no row, labels have no names, a stated one has no
    column, or a label's cell is neither 1, 0, -1 nor empty.
    """
    columns = table_columns(path, (_FILE,), _WANTED, most_bytes=_MOST_BYTES)
    names: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    if _CLASS in columns or not set(columns) - {_FILE, *_MORE}:
        found = read_table(path, (_FILE, _CLASS), _MORE, most_bytes=_MOST_BYTES)
    else:
        names, by_column = _label_columns(path, columns, stated)
        passed_over = tuple(name for name in columns if name not in (_FILE, *_MORE, *by_column))
        found = read_table(path, (_FILE, *by_column), _MORE, most_bytes=_MOST_BYTES, others=True)
    rows = [_label_row(row, tuple(by_column) if names else (), empty) for row in found]
    seen: dict[PurePosixPath, LabelRow] = {}
    for row in rows:
        first = seen.setdefault(PurePosixPath(row.file), row)
        if first is not row:
            raise DataError(f"{row.where}: {row.file} is named twice, first in {first.where.rpartition(', ')[2]}")
    without = next((row for row in rows if row.split is None), None)
    if without is not None and any(row.split for row in rows):
        raise DataError(f"{without.where}: split is empty, other rows have one; fill it in all rows or in none")
    if not rows:
        raise DataError(f"{path} has no row below its header")
    return LabelTable(where=str(path), rows=rows, labels=names, passed_over=passed_over)


def _label_columns(path: Path, columns: Sequence[str], stated: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """Names of the labels, and the columns that have them."""
    own = [name for name in columns if name not in (_FILE, *_MORE)]
    for name in own:
        if name.casefold() in (_FILE, _CLASS, *_MORE):
            raise DataError(f"{path} has the column {name!r}; write it {name.casefold()!r}")
    if not stated:
        return label_names(own, (), f"{path}, columns of labels"), own
    names = label_names((), stated, f"{path}, columns of labels")
    by_name = {unicodedata.normalize("NFC", column): column for column in own}
    for name in names:
        if name not in by_name:
            raise DataError(
                f"{path} has no column {name!r}, which classes = {list(names[:20])} name; add it, empty where nothing "
                "is known, or a column label with the class of each file"
            )
    return names, [by_name[name] for name in names]


def _label_row(row: Row, columns: Sequence[str], empty: EmptyLabels) -> LabelRow:
    cells, where = row.cells, row.where
    file, label, split, patient = (cells.get(name, "") for name in (_FILE, _CLASS, *_MORE))
    if not file or not (label or columns):
        raise DataError(f"{where}: file{'' if columns else ' or label'} is empty")
    if "patient" in cells and says_nothing(patient):
        raise DataError(f"{where}: patient is empty or missing; fill the column in all rows, or take it away")
    if split and split_named(split) is None:
        known = ", ".join(word for words in SPLIT_WORDS.values() for word in words)
        raise DataError(f"{where}: split {split!r}; choose one of {known}")
    readings = (PurePosixPath(file), PureWindowsPath(file))
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in readings):
        raise DataError(f"{where}: {file} leads out of the folder; name files relative to it")
    values = tuple(_value(cells[name], name, where, empty) for name in columns)
    if columns:
        label = ""
    return LabelRow(where=where, file=file, label=label, labels=values, split=split_named(split), patient=patient)


def _value(cell: str, column: str, where: str, empty: EmptyLabels) -> int:
    if not cell:
        return UNKNOWN if empty is EmptyLabels.UNKNOWN else 0
    value = _VALUES.get(cell)
    if value is None:
        raise DataError(
            f"{where}: {column} is {cell!r}; a label is 1 (there), 0 (absent), -1 (uncertain: unknown) or empty. Name "
            "the columns of labels by `classes` where there are others; the class of each file goes into a column label"
        )
    return value
