"""What a child process has started, and what that has: as Linux's `/proc` tells. Elsewhere there is nothing to see."""

import contextlib
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> tuple[int, ...]:
    """Process ids of all that a process has started and that still run, its children first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            # "pid (command) state parent ...": a command may hold anything.
            state, parent = entry.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children[int(parent)].append(int(entry.parent.name))
    found, due = [], [pid]
    while due:
        found += (started := children[due.pop(0)])
        due += started
    return tuple(found)


def ranks_of(pid: int) -> dict[int, int]:
    """Process ids of the ranks that a launcher has started and that still run, by rank."""
    found: dict[int, int] = {}
    for one in descendants(pid):
        with contextlib.suppress(OSError):
            variables = (_PROC / str(one) / "environ").read_bytes().split(b"\0")
            told = [text.partition(b"=")[2] for text in variables if text.startswith(b"RANK=")]
            if told and told[0].isdigit():
                found.setdefault(int(told[0]), one)
    return found
