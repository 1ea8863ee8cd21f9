"""Files that are there whole or not at all, whatever ends the process or the machine meanwhile.

What is written lies beside first, as NAME.part, is on the disk before it gets its name, and so is the name.
"""

import hashlib
import os
import secrets
from pathlib import Path

from mple.disk.scarcity import open_patiently


def write_whole(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write a file in place of the one that may be there, for its owner alone; it is on the disk when this returns.

    Raises FileExistsError: `new`, and there is one already, which is left alone; OSError: the disk refused; what was
    there stays.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(open_patiently(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    put_in_place(part, path, new=new)


def put_in_place(part: Path, path: Path, *, new: bool = False) -> None:
    """Give a file that was written beside its name, once its content is on the disk; `new` as in `write_whole`."""
    handle = open_patiently(part, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        try:
            os.link(part, path)
        finally:
            part.unlink()
    else:
        os.replace(part, path)
    fsync_folder(path.parent)


def overwrite(path: Path) -> None:
    """Put random bytes in a file's place and remove it. A disk that moves blocks may still keep the old ones."""
    with open(path, "r+b", opener=open_patiently) as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Have names that were made or removed on the disk."""
    handle = open_patiently(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file, 32 bytes."""
    with open(path, "rb", opener=open_patiently) as file:
        return hashlib.file_digest(file, "sha256").digest()
