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
from contextlib import suppress

from safetensors import SafetensorError

from mple.exit_codes import ExitCode, ExitError

_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_SCARCE = _DESCRIPTORS | {errno.ENOMEM, errno.EAGAIN}
_IN_WORDS = re.compile(
    r"can't start new thread|can't allocate memory|not enough memory|failed to allocate", re.IGNORECASE
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def scarcity_of(fault: BaseException | None) -> Exception | None:
    """The want that `fault` is or was raised from; None when there is none. From the system, Python, SQLite,
    safetensors or torch."""
    while fault is not None:
        if isinstance(fault, Exception) and _scarce(fault):
            return fault
        fault = fault.__cause__
    return None


def scarcity_end(fault: Exception) -> ExitError:
    """The end of a node for want of something: what its operator is told, and the way out."""
    if isinstance(fault, OSError | sqlite3.Error | SafetensorError) and _errno(fault) in _DESCRIPTORS:
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


def raise_own_limit() -> None:
    """Let this process open as many files as the system allows it to, where it may say so itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses what it reports as unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _scarce(fault: Exception) -> bool:
    if isinstance(fault, MemoryError):
        return True
    if isinstance(fault, RuntimeError):
        return _IN_WORDS.search(str(fault)) is not None
    return _errno(fault) in _SCARCE


def _errno(fault: Exception) -> int:
    """The system's number of an error, as far as it can be told; 0 otherwise."""
    if isinstance(fault, OSError):
        return fault.errno or 0
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
