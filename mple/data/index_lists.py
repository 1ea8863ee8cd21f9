"""Files with explicit lists of image numbers, counted from 0 within each split of the whole set.

- `.json`: a list with an object for each part, ``[{"train": [0, 5], "test": [1]}, ...]``.
- `.npz`: whole-number arrays ``train_0``, ``test_0``, ``train_1``, ...
- `.csv`: the columns part, split and index, a line for each image.

`test` may be missing. Lists may leave images out.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.data.npz_file import NpzFile
from mple.data.partitions import IndexLists

_MOST_BYTES = 1024**3
_SPLITS = ("train", "test")


def read_index_lists(path: Path, parts: int) -> tuple[IndexLists, ...]:
    """The lists of every part of a file that must have so many.

    Raises DataError: it is missing, damaged, of another kind, or has other parts; something in it is no whole number.
    """
    readers: dict[str, Callable[[Path, int], Sequence[Mapping[str, object]]]]
    readers = {".json": _from_json, ".npz": _from_npz, ".csv": _from_csv}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise DataError(f"index file {path} must end in {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"no index file at {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"index file {path} has {path.stat().st_size} bytes; at most {_MOST_BYTES} are read")
    return tuple(
        IndexLists(*(_numbers(entry.get(split, []), f"{path}: {split} of part {part}") for split in _SPLITS))
        for part, entry in enumerate(read(path, parts))
    )


def _from_json(path: Path, parts: int) -> list[Mapping[str, object]]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        raise DataError(f"index file {path} is no JSON: {fault}") from None
    if not isinstance(raw, list) or len(raw) != parts:
        raise DataError(f"index file {path} must be a list of {parts} parts")
    for part, entry in enumerate(raw):
        if not isinstance(entry, dict) or "train" not in entry or set(entry) - set(_SPLITS):
            raise DataError(f'index file {path}: part {part} must be an object with "train" and, if wanted, "test"')
    return raw


def _from_npz(path: Path, parts: int) -> list[Mapping[str, object]]:
    with NpzFile(path, _MOST_BYTES) as file:
        needed = {f"train_{part}" for part in range(parts)}
        foreign = file.names - needed - {f"test_{part}" for part in range(parts)}
        if not needed <= file.names or foreign:
            raise DataError(f"index file {path} holds {sorted(file.names)}; needs train_N and test_N, N below {parts}")

        def numbers(name: str) -> NDArray[np.int64]:
            header = file.header(name)
            if len(header.shape) != 1 or not np.issubdtype(header.dtype, np.integer):
                raise DataError(f"index file {path}: {name} is {header.dtype} {header.shape}; needs whole numbers (n)")
            return file.read(name).astype(np.int64)

        names = [{split: f"{split}_{part}" for split in _SPLITS} for part in range(parts)]
        return [{split: numbers(name) for split, name in own.items() if name in file.names} for own in names]


def _from_csv(path: Path, parts: int) -> Sequence[Mapping[str, object]]:
    lists: list[dict[str, list[int]]] = [{split: [] for split in _SPLITS} for _ in range(parts)]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if set(rows.fieldnames or ()) != {"part", "split", "index"}:
                raise DataError(f"index file {path} has the columns {rows.fieldnames}; needs part,split,index")
            for row in rows:
                part, split = _whole(row["part"]), (row["split"] or "").strip()
                index = _whole(row["index"])
                if part is None or index is None or not 0 <= part < parts or split not in _SPLITS:
                    raise DataError(
                        f"index file {path}, line {rows.line_num}: part {row['part']!r}, split {row['split']!r}, index "
                        f"{row['index']!r}; parts go from 0 to {parts - 1}, split is train or test"
                    )
                lists[part][split].append(index)
    except (csv.Error, UnicodeDecodeError) as fault:
        raise DataError(f"index file {path} is no CSV: {fault}") from None
    return lists


def _whole(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _numbers(values: object, where: str) -> NDArray[np.int64]:
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, Sequence) or not all(type(value) is int for value in values):
        raise DataError(f"index file {where}: needs a list of whole numbers")
    try:
        return np.asarray(values, np.int64)
    except OverflowError:
        raise DataError(f"index file {where}: a number is out of range") from None
