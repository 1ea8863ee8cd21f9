"""Locks between processes, which end with whoever holds them, however that ends.

A node claims its state folder for as long as it runs: two that write the same cache or ledger would spoil both. Whoever
changes a vault, an authority's index or an audit trail, as commands do beside a running node, takes a turn instead.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mple.disk.private import make_private, shared_by
from mple.disk.scarcity import open_patiently, scarcity_of
from mple.disk.storage_faults import storage_fault_of

_LOCK = "node.lock"
_MOST_BYTES = 200


@contextmanager
def claim(state: Path, program: str) -> Iterator[None]:
    """Have a state folder, made at first use, to this process alone while the block runs.

    The claim ends with the process, however that ends; `program` is named to a second one that wants it. A folder that
    others could read is closed to them.

    Raises ValueError: another process has it, others can write to it or own it, or it can't be a folder of ours;
    OSError: the disk refuses.
    """
    try:
        make_private(state)
        shared = shared_by(state)
        if shared is not None:
            raise ValueError(f"state = {state} can't be used: {'; mend it by: '.join(shared)}")
        state.chmod(0o700)
        lock = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        if storage_fault_of(fault) is not None or scarcity_of(fault) is not None:
            raise
        raise ValueError(f"state = {state} can't be used: {fault.strerror}; name a folder") from None
    try:
        if not _got(lock):
            holder = os.pread(lock, _MOST_BYTES, 0).decode("utf-8", "replace") or "node"
            raise ValueError(f"another {holder} works in {state}; stop it, or name another state folder")
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{program} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(lock)


def _got(lock: int) -> bool:
    """Whether nobody else had it. The refusal does not become an error's context, where it would pass for want of
    something: its number is that of a system that has no more to give."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, wait: Callable[[], object] | None = None) -> Iterator[None]:
    """One process at a time within the block, of all that lock the folder or file; whoever comes second waits: until
    its turn, or by calling `wait` again and again, which may raise to give up."""
    handle = open_patiently(path, os.O_RDONLY)
    try:
        while wait is not None and not _got(handle):
            wait()
        with turn(handle):
            yield
    finally:
        os.close(handle)


@contextmanager
def turn(handle: int) -> Iterator[None]:
    """As `locked`, of all that have the file open; `handle` is its descriptor."""
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
