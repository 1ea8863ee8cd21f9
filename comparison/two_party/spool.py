"""A file for what comes offline and is needed online: garbled tables, which for a large network exceed the memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Spool:
    """Contents in a file of the state folder; emptied for each inference, gone when closed."""

    def __init__(self, path: Path) -> None:
        """Make the file anew. Raises OSError: the disk refuses."""
        self._path = path
        self._file = path.open("w+b")
        self._places: list[tuple[int, int]] = []
        self.most_bytes = 0
        """The largest size that the file has had."""

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def append(self, pieces: Iterable[bytes]) -> int:
        """Write a content behind the others; returns its number."""
        self._file.seek(0, 2)
        begin = self._file.tell()
        for piece in pieces:
            self._file.write(piece)
        self._file.flush()
        end = self._file.tell()
        self._places.append((begin, end - begin))
        self.most_bytes = max(self.most_bytes, end)
        return len(self._places) - 1

    def read(self, number: int) -> bytes:
        """A content."""
        begin, size = self._places[number]
        self._file.seek(begin)
        return self._file.read(size)

    def empty(self) -> None:
        """Drop all contents."""
        self._places.clear()
        self._file.seek(0)
        self._file.truncate()
