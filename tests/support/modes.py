"""File modes: what a tree holds that is open to others, under a umask of the test's own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNMASKED = "import os; os.umask = lambda mask: 0"
"""As `sitecustomize.py` of a Python process: it keeps the umask that it was started with."""


@contextmanager
def umask_of(mask: int) -> Iterator[None]:
    """Files of this process, and of those that it starts, are made under this umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(root: Path) -> list[str]:
    """Everything from a folder on down, itself too, that others than its owner may use, with its mode."""
    found = []
    for path in (root, *sorted(root.rglob("*"))):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink():
            found.append(f"{path.relative_to(root)} {mode:04o}")
    return found
