"""What a node writes is its owner's alone: folders 0700, files 0600, whatever the umask.

Layers above all: who can read one can compute its site's key. Two things see to it. A command begins with
`keep_private`, so that nothing it makes, or a library for it, is open to others. And what our own code makes has its
mode from here, so that it is closed in whatever process the code runs.
"""

import os
import pwd
import stat
from pathlib import Path

from mple.disk.scarcity import open_patiently

OTHERS = 0o077
"""The bits of a mode that are not its owner's."""
_WRITING = 0o022


def keep_private() -> None:
    """Have all files that this process and its children make from now on closed to others."""
    os.umask(OTHERS)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for its owner alone; one that is there stays as it is.

    Raises OSError: it can't be made, or something else has its name.
    """
    for above in reversed(folder.parents):
        if not above.exists():
            above.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> Path:
    """Make an empty file for its owner alone where there is none, and close one that is open to others; returns the
    path, for whatever opens it next. Raises OSError: it can't be opened for writing."""
    handle = open_patiently(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISREG(mode) and mode & OTHERS:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    return path


def shared_by(folder: Path) -> tuple[str, str] | None:
    """Why a folder is not this user's alone to write to, and the command that mends it; None where it is."""
    seen, me = folder.stat(), os.geteuid()
    if seen.st_uid != me:
        cause = f"{folder} belongs to {_user(seen.st_uid)}, not to {_user(me)}, who runs this"
        return cause, f"chown -R {_user(me)} {folder}, or run it as {_user(seen.st_uid)}"
    mode = stat.S_IMODE(seen.st_mode)
    if mode & _WRITING:
        return f"others can write to {folder} (mode {mode:04o})", f"chmod -R go= {folder}"
    return None


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
