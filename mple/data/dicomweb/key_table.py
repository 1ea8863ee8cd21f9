"""The table of labels of a PACS's instances: by which attributes a row names its instances, and what else it says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mple.data.images import DataError
from mple.data.names import shown
from mple.data.tables import read_table

KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "AccessionNumber")
"""DICOM's words for what a row may name its instances by."""
MOST_TABLE_BYTES = 1024**3
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_MOST_UID = 64
_MOST_HEADER = 64 * 1024
_WILD = re.compile(r"[*?\\]")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One row of a label table."""

    where: str
    """The table and the line's number, for messages: a key may be a patient's."""
    keys: dict[str, str]
    """Those of `KEYS` that the row fills in, one at least."""
    others: dict[str, str]
    """Its other cells, by column."""


def read_key_table(path: Path) -> Sequence[KeyRow]:
    """All rows.

    Raises DataError: as `read_table`; there is no row, the table has a column `file`, or a row names nothing, or by
    something that is no UID, or by more than one thing ("*", "?" and "\\").
    """
    rows = []
    for row in read_table(path, _one_key(path), KEYS, most_bytes=MOST_TABLE_BYTES, others=True):
        keys = {name: row.cells[name] for name in KEYS if row.cells.get(name)}
        if "file" in row.cells:
            raise DataError(f"{row.where}: the table has a column file, which is for what is fetched; take it away")
        if not keys:
            raise DataError(f"{row.where} names no instance; fill in one of {', '.join(KEYS)}")
        for name, value in keys.items():
            if name.endswith("UID") and not is_uid(value):
                raise DataError(f"{row.where}: {name} {shown(value)} is no UID; needs numbers parted by dots")
            if _WILD.search(value):
                raise DataError(f"{row.where}: {name} holds one of * ? \\, which stand for others; name each by a row")
        rows.append(KeyRow(row.where, keys, {name: cell for name, cell in row.cells.items() if name not in KEYS}))
    if not rows:
        raise DataError(f"{path} has no row below its header")
    return rows


def _one_key(path: Path) -> tuple[str, ...]:
    """A key column that the table has, by which its reader finds what parts the cells."""
    try:
        with path.open("rb") as file:
            header = file.readline(_MOST_HEADER).decode("utf-8", "replace")
    except OSError:
        return ()  # the reader says so
    found = tuple(name for name in KEYS if name in header)[:1]
    if not found and "\0" not in header:
        raise DataError(f"{path} names no instances; needs one of {', '.join(KEYS)} as a column")
    return found


def is_uid(text: str) -> bool:
    """Whether it is a UID as DICOM has them, and so also a name of a file or folder that leads nowhere else."""
    return len(text) <= _MOST_UID and _UID.fullmatch(text) is not None
