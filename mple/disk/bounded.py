"""Reading files that others may have made: regular ones only, never more than a bound, and nothing outside a folder.

A folder that somebody hands over can hold a pipe that nobody writes to, a device, a link to elsewhere, a sparse file
of a terabyte. Whoever reads such a folder goes through here, and gets an error with a sentence.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mple.disk.scarcity import open_patiently

MEBIBYTE = 1024 * 1024
MOST_RECORD_BYTES = 64 * MEBIBYTE
"""Of a file with one record. A plan of 65,535 classes with long names has 14 MB."""
_MOST_ENTRIES = 100_000


class UnsoundFileError(ValueError):
    """A file is larger than what anybody writes, or a folder leads out of itself; the text names it."""


def open_regular(path: Path, most_bytes: int) -> BinaryIO:
    """Open a file for reading. It is not waited for whoever should write to a pipe.

    Raises OSError: it can't be opened, or is no regular file; UnsoundFileError: it is larger than `most_bytes`.
    """
    handle = open_patiently(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if about.st_size > most_bytes:
            raise UnsoundFileError(f"{path} has {about.st_size:,} bytes; at most {most_bytes:,} are read")
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, most_bytes: int = MOST_RECORD_BYTES, *, named: bool = False) -> bytes:
    """All bytes of a file; of one that the user has `named`, also of a pipe.

    Raises OSError: it can't be opened, or is no regular file and not named; UnsoundFileError: it has more bytes.
    """
    with path.open("rb") if named else open_regular(path, most_bytes) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UnsoundFileError(f"{path} has more than {most_bytes:,} bytes, which is more than are read")
    return content


def lines_bounded(path: Path, most_bytes: int, most_line: int = MEBIBYTE) -> Iterator[bytes]:
    """The lines of a file one after the other with their ends; of a line beyond `most_line` bytes, its pieces. Raises
    OSError, UnsoundFileError: see `open_regular`."""
    with open_regular(path, most_bytes) as file:
        while line := file.readline(most_line):
            yield line


def require_within(folder: Path) -> None:
    """Look at all that lies in a folder, before anything of it is read.

    Raises UnsoundFileError: a link in it leads out of it or nowhere, something in it is neither file nor folder, or it
    holds more than 100,000 entries; OSError: it can't be looked at.
    """
    root, left = folder.resolve(), _MOST_ENTRIES
    ahead = [root]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    raise UnsoundFileError(f"{folder} holds more than {_MOST_ENTRIES:,} files; it is no run's folder")
                if entry.is_symlink():
                    _require_inside(Path(entry.path), root)
                elif entry.is_dir():
                    ahead.append(Path(entry.path))
                elif not entry.is_file():
                    raise UnsoundFileError(f"{entry.path} is neither a file nor a folder; remove it")


def _require_inside(link: Path, root: Path) -> None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # Python up to 3.12 says so of a circle
        raise UnsoundFileError(f"{link} is a link that leads nowhere; remove it") from None
    if not target.is_relative_to(root):
        raise UnsoundFileError(
            f"{link} is a link to {target}, outside {root}: a run's folder is read by itself; copy what it leads to "
            "in its place, or remove it"
        )
    if not (target.is_file() or target.is_dir()):
        raise UnsoundFileError(f"{link} is a link to what is neither a file nor a folder; remove it")
