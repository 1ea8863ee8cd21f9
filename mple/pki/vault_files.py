"""How a vault's files come and go: whole or not at all, readable by their owner only, overwritten before they leave."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mple.disk.whole_files import fsync_folder, write_whole


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, first beside, on the disk when this returns."""
    write_whole(path, content, mode=0o600)


def overwrite(path: Path) -> None:
    """Put random bytes in a file's place and remove it. A disk that moves blocks may still keep the old ones."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    fsync_folder(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time within the block: a command may run beside the node."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
