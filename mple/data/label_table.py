"""The table of labels of a set: which file has which label and, if the table says so, which split and which patient."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mple.data.images import DataError
from mple.data.names import SPLIT_WORDS, says_nothing, split_named
from mple.data.tables import Row, read_table

_MOST_BYTES = 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """One row of a label table."""

    where: str
    """The table and the line's number, for messages."""
    file: str
    """Relative to the set's folder, and inside it."""
    label: str
    split: str | None
    """train, val or test; None where the table has no splits."""
    patient: str
    """Empty where the table has no patients."""


def read_label_table(path: Path) -> list[LabelRow]:
    """All rows, of which each names another file.

    Raises DataError: as `read_table`; a cell is empty (a column `split` may be so as a whole), a split has another
    name, a file leads out of the folder or is there twice, or there is no row.
    """
    rows = [
        _label_row(row) for row in read_table(path, ("file", "label"), ("split", "patient"), most_bytes=_MOST_BYTES)
    ]
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
    return rows


def _label_row(row: Row) -> LabelRow:
    cells, where = row.cells, row.where
    file, label, split, patient = (cells.get(name, "") for name in ("file", "label", "split", "patient"))
    if not file or not label:
        raise DataError(f"{where}: file or label is empty")
    if "patient" in cells and says_nothing(patient):
        raise DataError(f"{where}: patient is empty or missing; fill the column in all rows, or take it away")
    if split and split_named(split) is None:
        known = ", ".join(word for words in SPLIT_WORDS.values() for word in words)
        raise DataError(f"{where}: split {split!r}; choose one of {known}")
    readings = (PurePosixPath(file), PureWindowsPath(file))
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in readings):
        raise DataError(f"{where}: {file} leads out of the folder; name files relative to it")
    return LabelRow(where=where, file=file, label=label, split=split_named(split), patient=patient)
