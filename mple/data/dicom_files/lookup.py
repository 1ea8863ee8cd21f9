"""Lookup tables of DICOM files: modality and VOI tables, and colour palettes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.data.dicom_files.numbers import has_value
from mple.data.images import DataError

_COLOURS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 1 << 16


@dataclass(frozen=True, slots=True)
class Table:
    """Entries from a first input on; inputs before it and after the last take the nearest."""

    first: int
    entries: NDArray[np.int64]
    top: int
    """The highest value that an entry can have."""

    def of(self, inputs: NDArray[np.generic]) -> NDArray[np.int64]:
        """What the table has for inputs, which are rounded to whole numbers."""
        whole = np.rint(np.nan_to_num(inputs.astype(np.float64), nan=0.0, posinf=2.0**62, neginf=-(2.0**62)))
        return np.asarray(self.entries[np.clip(whole - self.first, 0, len(self.entries) - 1).astype(np.int64)])


def sequence_table(item: Any, *, signed_inputs: bool, little_endian: bool) -> Table:
    """The table of an item of ModalityLUTSequence or VOILUTSequence. Raises DataError: it is damaged."""
    if not (has_value(item, "LUTDescriptor") and has_value(item, "LUTData")):
        raise DataError("its lookup table lacks LUTDescriptor or LUTData")
    count, first, bits = _descriptor(item, "LUTDescriptor", signed_inputs)
    entries = _entries(item, "LUTData", count, bits, little_endian)
    return Table(first, entries, _top(entries, bits))


def palette(about: Any, *, signed_inputs: bool, little_endian: bool) -> tuple[Table, Table, Table]:
    """The tables of red, green and blue. Raises DataError: one is missing or damaged."""
    found = []
    for colour in _COLOURS:
        name = f"{colour}PaletteColorLookupTable"
        if not has_value(about, f"{name}Descriptor"):
            raise DataError(f"it has no {name}Descriptor")
        count, first, bits = _descriptor(about, f"{name}Descriptor", signed_inputs)
        if has_value(about, f"Segmented{name}Data"):
            entries = _segmented(about, f"Segmented{name}Data", count, bits, little_endian)
        else:
            entries = _entries(about, f"{name}Data", count, bits, little_endian)
        found.append((first, entries, bits))
    every = np.concatenate([entries for _, entries, _ in found])
    top = _top(every, found[0][2])
    if top == 0xFFFF and every.max() <= 0xFF:
        top = 0xFF  # entries of 8 bits under a descriptor that says 16: as black as that can't be meant
    red, green, blue = (Table(first, entries, top) for first, entries, _ in found)
    return red, green, blue


def _descriptor(item: Any, name: str, signed_inputs: bool) -> tuple[int, int, int]:
    """Count of entries, first input and bits of an entry, read by bits: files mix up signed and unsigned ones."""
    try:
        count, first, bits = (int(number) for number in item.get(name))
    except (TypeError, ValueError):
        raise DataError(f"{name} is {item.get(name)!r}; needs three numbers") from None
    count, first = count & 0xFFFF or _MOST_ENTRIES, first & 0xFFFF
    if signed_inputs and first >= 0x8000:
        first -= 0x10000
    if not 8 <= bits <= 16:
        raise DataError(f"{name} says {bits} bits an entry; needs 8 to 16")
    return count, first, bits


def _entries(item: Any, name: str, count: int, bits: int, little_endian: bool) -> NDArray[np.int64]:
    """Entries in words of 16 bits, or of 8 where the data hold no more."""
    data = item.get(name) or b""
    if not isinstance(data, bytes):
        entries = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
        if bits == 8 and len(entries) == -(-count // 2) and count > 1:
            data, little_endian = entries.astype("<u2").tobytes(), True
    if isinstance(data, bytes):
        if len(data) >= 2 * count:
            entries = _words(data, little_endian)
        else:  # two in each word, the first in its low byte, whatever the file's order of bytes
            entries = np.frombuffer(_words(data, little_endian).astype("<u2").tobytes(), np.uint8).astype(np.int64)
    if len(entries) < count:
        raise DataError(f"{name} has {len(entries)} entries, its descriptor says {count}")
    return entries[:count]


def _words(data: bytes, little_endian: bool) -> NDArray[np.int64]:
    return np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little_endian else ">u2").astype(np.int64)


def _top(entries: NDArray[np.int64], bits: int) -> int:
    """Of the bits that the descriptor tells, or of 16 where entries are higher than those can be."""
    top = (1 << bits) - 1
    return top if not len(entries) or entries.max() <= top else 0xFFFF


def _segmented(item: Any, name: str, count: int, bits: int, little_endian: bool) -> NDArray[np.int64]:
    """Entries of segments (DICOM PS3.3 C.7.9.2): 0 a list, 1 a line to a value, 2 segments once more from an offset."""
    data = item.get(name)
    numbers = list(data) if bits == 8 and isinstance(data, bytes) else _words(data, little_endian).tolist()
    if bits == 8 and not little_endian:
        numbers = list(_words(data, False).astype("<u2").tobytes())
    entries: list[int] = []
    try:
        _expand(numbers, 0, len(numbers), entries, count, bits, nested=False)
    except IndexError:
        raise DataError(f"{name} is damaged: a segment is cut off") from None
    if len(entries) < count:
        raise DataError(f"{name} makes {len(entries)} entries, its descriptor says {count}")
    return np.asarray(entries[:count], np.int64)


def _expand(
    numbers: list[int], place: int, segments: int, entries: list[int], count: int, bits: int, *, nested: bool
) -> None:
    """Append what so many segments from a place on make, until all entries are there."""
    done = 0
    while done < segments and len(entries) < count and place < len(numbers):
        kind, length = numbers[place], numbers[place + 1]
        if kind == 0:
            entries += _cut(numbers, place + 2, length)
            place += 2 + length
        elif kind == 1 and entries:
            start, end = entries[-1], numbers[place + 2]
            entries += [round(start + (end - start) * step / length) for step in range(1, length + 1)]
            place += 3
        elif kind == 2 and not nested:
            size = 1 if bits == 8 else 2
            parts = _cut(numbers, place + 2, 4 // size)
            offset = sum(part << (8 * size * rank) for rank, part in enumerate(parts))  # in bytes, low part first
            _expand(numbers, offset // size, length, entries, count, bits, nested=True)
            place += 2 + len(parts)
        else:
            raise DataError(f"its palette has a segment of kind {kind} where none can be")
        done += 1


def _cut(numbers: list[int], place: int, length: int) -> list[int]:
    if place + length > len(numbers):
        raise IndexError
    return numbers[place : place + length]
