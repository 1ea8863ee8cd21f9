"""Want of descriptors, memory or threads: a fault of the node's own surroundings, recognised in one place.

As a full disk (`storage_faults`) it says nothing about the run and is not told of as the run's failure. Unlike a full
disk it may pass by itself: what can be tried again later is, and only what can't ends the node, with
`ExitCode.RESOURCES`; the same command goes on when there is enough again.
"""

import errno
import os
import re
import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from mple.exit_codes import ExitCode, ExitError

_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_SCARCE = _DESCRIPTORS | {errno.ENOMEM, errno.EAGAIN}
_IN_WORDS = re.compile(
    r"can't start new thread|can't allocate memory|not enough memory|failed to allocate", re.IGNORECASE
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

T = TypeVar("T")
PATIENCE_S = 60.0
"""How long a file that is to be opened waits for a descriptor."""
_LOOK_EVERY_S = 0.1
_OWN_DESCRIPTORS = 128
"""A node has about 30 open; the rest is for files that it opens for a while, and for growth."""


def open_patiently(path: str | Path, flags: int, mode: int = 0o666) -> int:
    """As `os.open`, and as the `opener` of `open`; waits for a descriptor while there is none.

    Raises OSError: the disk refuses, or no descriptor came free for `PATIENCE_S` seconds.
    """
    return patiently(lambda: os.open(path, flags | os.O_CLOEXEC, mode))


def patiently(reading: Callable[[], T]) -> T:
    """What `reading` returns; begun again while there is no descriptor for it, for `PATIENCE_S` seconds at most.

    Raises Exception: as `reading` does.
    """
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            return reading()
        except (OSError, SafetensorError, RuntimeError) as fault:
            if not _wants_descriptor(fault) or time.monotonic() >= give_up_at:
                raise
            time.sleep(_LOOK_EVERY_S)


def scarcity_of(fault: BaseException | None) -> Exception | None:
    """The want that `fault` is, or was raised from or on account of; None when there is none. From the system, Python,
    SQLite, safetensors or torch. A reader that finds no descriptor says in its own words that a file can't be read:
    that is no fault of the file."""
    while fault is not None:
        if isinstance(fault, Exception) and _scarce(fault):
            return fault
        fault = fault.__cause__ or fault.__context__
    return None


def scarcity_end(fault: Exception) -> ExitError:
    """The end of a node for want of something: what its operator is told, and the way out."""
    if _wants_descriptor(fault):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        what, remedy = f"descriptors (its limit is {soft})", "raise the limit of open files (ulimit -n, LimitNOFILE)"
    elif "thread" in str(fault):
        what, remedy = "threads", "raise the limit of processes (ulimit -u, TasksMax)"
    else:
        what, remedy = "memory", "give it more memory, or make its batches and data smaller"
    return ExitError(
        f"this process has no {what} left: {fault}; nothing accepted is lost",
        ExitCode.RESOURCES,
        f"{remedy} and start it again with the same command",
    )


def room_for_peers() -> int:
    """How many connections of others this process can take and have enough descriptors for its own files and calls."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else max(soft - _OWN_DESCRIPTORS, soft // 2)


def require_descriptors(needed: int, what: str) -> None:
    """Refuse what needs more descriptors than this process may open.

    Raises ExitError: so it is, with `ExitCode.RESOURCES`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OWN_DESCRIPTORS + needed:
        raise ExitError(
            f"{what} need {_OWN_DESCRIPTORS + needed:,} descriptors, this process may open {soft:,}",
            ExitCode.RESOURCES,
            "raise the limit of open files (ulimit -n, LimitNOFILE), or put fewer into one process",
        )


def raise_own_limit() -> None:
    """Let this process open as many files as the system allows it to, where it may say so itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses what it reports as unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _scarce(fault: Exception) -> bool:
    if isinstance(fault, MemoryError):
        return True
    if _wants_descriptor(fault) or _errno(fault) in _SCARCE:
        return True
    return isinstance(fault, RuntimeError) and _IN_WORDS.search(str(fault)) is not None


def _wants_descriptor(fault: Exception) -> bool:
    """Torch opens files by itself, and gives the system's words alone."""
    words = isinstance(fault, RuntimeError) and os.strerror(errno.EMFILE) in str(fault)
    return words or _errno(fault) in _DESCRIPTORS


def _errno(fault: Exception) -> int:
    """The system's number of an error, as far as it can be told; 0 otherwise."""
    if isinstance(fault, OSError):
        # Safetensors says of every file that it can't open that there is none, without a number.
        return _refused_descriptor() if fault.errno is None else fault.errno
    if isinstance(fault, SafetensorError):
        match = _OS_ERROR.search(str(fault))
        return int(match[1]) if match else 0
    if getattr(fault, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
        return _refused_descriptor()  # SQLite does not say why
    return 0


def _refused_descriptor() -> int:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as fault:
        return fault.errno or 0
    return 0
