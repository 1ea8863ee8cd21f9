"""Files that are there whole or not at all, whatever ends the process or the machine meanwhile.

What is written lies beside first, as NAME.part, is on the disk before it gets its name, and so is the name.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file in place of the one that may be there; it is on the disk when this returns.

    Raises:
        OSError: The disk refused; what was there stays.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    put_in_place(part, path)


def put_in_place(part: Path, path: Path) -> None:
    """Give a file that was written beside its name, once its content is on the disk."""
    handle = os.open(part, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(part, path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Have names that were made or removed on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
