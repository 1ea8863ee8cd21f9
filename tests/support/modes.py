"""File modes: what a tree holds that is open to others, under a umask of the test's own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mple.node import ending

_CUSTOMS = "import os; os.umask = lambda mask: 0"


@contextmanager
def umask_of(mask: int) -> Iterator[None]:
    """Files of this process, and of those that it starts, are made under this umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def unmasked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Umask 000 for this process and for all that it starts, and none of them can change it; `folder` is new."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CUSTOMS)
    with umask_of(0), monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))))
        patched.setattr(ending, "keep_private", lambda: None)
        yield


def open_to_others(root: Path) -> list[str]:
    """Everything from a folder on down, itself too, that others than its owner may use, with its mode."""
    found = []
    for path in (root, *sorted(root.rglob("*"))):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink():
            found.append(f"{path.relative_to(root)} {mode:04o}")
    return found
