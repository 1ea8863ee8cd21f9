"""Faults of the disk and damaged files: recognised in one place, and noted once per node, for they end it.

A full disk or a damaged file says nothing about the run. The node stops with `ExitCode.STORAGE` or `DAMAGED`, its peers
wait, and the same command goes on when there is room or the file was put right. gRPC and threads swallow what is raised
within them; whoever sees such a fault there notes it, and the node's start has it end.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from mple.disk.damage import DamagedError
from mple.disk.scarcity import scarcity_of
from mple.exit_codes import ExitCode, ExitError
from mple.per_node import PerNode

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BROKEN = {errno.EIO, errno.EROFS}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_watch: PerNode[StorageWatch | None] = PerNode(None)
"""That of the command that runs."""


def storage_fault_of(fault: BaseException | None) -> Exception | None:
    """The fault of the disk that `fault` is or was raised from; None when there is none. No room, quota, limit of file
    size, input/output error, read-only file system; from the system, SQLite or safetensors; a damaged file."""
    if scarcity_of(fault) is not None:
        return None  # a file that could not be opened for want of a descriptor is not damaged
    while fault is not None:
        if isinstance(fault, DamagedError):
            return fault
        if isinstance(fault, Exception) and _number(fault) in _FULL | _BROKEN:
            return fault
        fault = fault.__cause__
    return None


class StorageWatch:
    """Keeps the first fault of the disk, and tells of it once."""

    def __init__(self, on_fault: Callable[[], None]) -> None:
        self._on_fault = on_fault
        self.fault: Exception | None = None

    def note(self, fault: Exception) -> None:
        """Take in a fault if it is one of the disk."""
        found = storage_fault_of(fault)
        if found is not None and self.fault is None:
            self.fault = found
            self._on_fault()


@contextmanager
def watched_storage(on_fault: Callable[[], None]) -> Iterator[StorageWatch]:
    """Have what `note_storage_fault` gets while the block runs; the first fault of the disk calls `on_fault`."""
    before, watch = _watch.get(), StorageWatch(on_fault)
    _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.set(before)


def note_storage_fault(fault: Exception) -> None:
    """Tell of a fault where it would be swallowed; kept if it is one of the disk and somebody watches."""
    watch = _watch.get()
    if watch is not None:
        watch.note(fault)


def noted_storage_fault() -> Exception | None:
    """The fault of the disk that ends this node, if there is one."""
    watch = _watch.get()
    return None if watch is None else watch.fault


def raise_storage_fault() -> None:
    """Raise the fault that was noted, if there is one."""
    fault = noted_storage_fault()
    if fault is not None:
        raise fault


def storage_end(fault: Exception, state: Path) -> ExitError:
    """The end by a fault of the disk of the node with this state folder: what its operator is told, and the way out."""
    if isinstance(fault, DamagedError):
        return fault
    path = Path(str(getattr(fault, "filename", None) or state))
    why = getattr(fault, "strerror", None) or str(fault)
    folder = path if path.is_dir() else path.parent
    remedy = f"make room in {folder}" if _number(fault) in _FULL else f"mend the disk of {folder}"
    return ExitError(
        f"{path} can't be written: {why}; nothing accepted is lost",
        ExitCode.STORAGE,
        f"{remedy} and start the node again with the same command",
    )


def _number(fault: Exception) -> int:
    """The system's number of an error, as far as it can be told; 0 otherwise."""
    if isinstance(fault, OSError):
        return fault.errno or 0
    if isinstance(fault, sqlite3.Error):
        code = getattr(fault, "sqlite_errorcode", 0) & 0xFF  # the rest says where in SQLite it was seen
        return {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}.get(code, 0)
    if isinstance(fault, SafetensorError):
        match = _OS_ERROR.search(str(fault))
        return int(match[1]) if match else 0
    return 0
