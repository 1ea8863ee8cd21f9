"""Files with explicit lists of image numbers, counted from 0 within each split of the whole set.

- `.json`: a list with an object for each part, ``[{"train": [0, 5], "test": [1], "val": [0]}, ...]``.
- `.npz`: whole-number arrays ``train_0``, ``test_0``, ``val_0``, ``train_1``, ...
- `.csv`: the columns part, split and index, a line for each image.

`test` and `val` may be missing. Lists may leave images out.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.data.npz_file import NpzFile
from mple.data.partitions import SPLITS, IndexLists
from mple.data.tables import read_table

_MOST_BYTES = 1024**3
_WHOLE = re.compile("[0-9]{1,18}")


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
        IndexLists(*(_numbers(entry.get(split, []), f"{path}: {split} of part {part}") for split in SPLITS))
        for part, entry in enumerate(read(path, parts))
    )


def _from_json(path: Path, parts: int) -> list[Mapping[str, object]]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"index file {path} is no JSON: {fault}") from None
    if not isinstance(raw, list) or len(raw) != parts:
        raise DataError(f"index file {path} must be a list of {parts} parts")
    for part, entry in enumerate(raw):
        if not isinstance(entry, dict) or "train" not in entry or set(entry) - set(SPLITS):
            raise DataError(
                f"index file {path}: part {part} must be an object with 'train', and 'test' and 'val' if wanted"
            )
    return raw


def _each_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError(f"a part has {[name for name, _ in pairs]}, one of them twice")
    return dict(pairs)


def _from_npz(path: Path, parts: int) -> list[Mapping[str, object]]:
    with NpzFile(path, _MOST_BYTES) as file:
        needed = {f"train_{part}" for part in range(parts)}
        foreign = file.names - {f"{split}_{part}" for split in SPLITS for part in range(parts)}
        if not needed <= file.names or foreign:
            raise DataError(
                f"index file {path} holds {sorted(file.names)}; needs train_N, test_N and val_N, N below {parts}"
            )

        def numbers(name: str) -> NDArray[np.generic]:
            header = file.header(name)
            if len(header.shape) != 1 or header.dtype.kind not in "iu":
                raise DataError(f"index file {path}: {name} is {header.dtype} {header.shape}; needs whole numbers (n)")
            return file.read(name)

        names = [{split: f"{split}_{part}" for split in SPLITS} for part in range(parts)]
        return [{split: numbers(name) for split, name in own.items() if name in file.names} for own in names]


def _from_csv(path: Path, parts: int) -> Sequence[Mapping[str, object]]:
    lists: list[dict[str, list[int]]] = [{split: [] for split in SPLITS} for _ in range(parts)]
    for row in read_table(path, ("part", "split", "index"), (), most_bytes=_MOST_BYTES):
        part, split, index = (row.cells[name] for name in ("part", "split", "index"))
        if not (_WHOLE.fullmatch(part) and _WHOLE.fullmatch(index)) or int(part) >= parts or split not in SPLITS:
            raise DataError(
                f"index file {row.where}: part {part!r}, split {split!r}, index {index!r}; parts go from 0 to "
                f"{parts - 1}, split is train, test or val"
            )
        lists[int(part)][split].append(int(index))
    return lists


def _numbers(values: object, where: str) -> NDArray[np.int64]:
    if isinstance(values, np.ndarray):
        if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
            raise DataError(f"index file {where}: {values.max()} is out of range")
        return values.astype(np.int64)
    if not isinstance(values, Sequence) or not all(type(value) is int for value in values):
        raise DataError(f"index file {where}: needs a list of whole numbers")
    try:
        return np.asarray(values, np.int64)
    except OverflowError:
        raise DataError(f"index file {where}: a number is out of range") from None
