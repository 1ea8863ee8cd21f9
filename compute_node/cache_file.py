"""The cache's file as its readers hold it: it stays open until the last of them is through, replaced or not."""

from __future__ import annotations

import os
from pathlib import Path

from mple.disk.whole_files import put_in_place


class CacheFile:
    """A file descriptor that closes with its last reference."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if new else 0), 0o600)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close now; a second call does nothing."""
        number, self.number = getattr(self, "number", -1), -1
        if number >= 0:
            os.close(number)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self.number).st_size


class Replacement(CacheFile):
    """A new file beside a path that can take its place, name and content on the disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, _beside(path)
        super().__init__(self._beside, new=True)

    @staticmethod
    def remove_left(path: Path) -> None:
        """Remove what a process left that died before `take_place`."""
        _beside(path).unlink(missing_ok=True)

    def take_place(self) -> None:
        """Put the file where the old one is."""
        put_in_place(self._beside, self._path)

    def discard(self) -> None:
        """Close and remove the file instead."""
        self.close()
        self._beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".part")
