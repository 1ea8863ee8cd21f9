"""What the machine has that a process can't do without: memory and cores, by what its container may use of them."""

import os
from pathlib import Path

_GIB = 1024**3
_MALLOC_OPTIONS = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_THRESHOLD": (-3, 1536 * 1024),
    "M_TRIM_THRESHOLD": (-1, 8 * 1024**2),
}
"""Of `mallopt`, by their names in malloc.h, with numbers from there. The arrays of a part of a batch stay in the heap,
and its end is not given back between two of them: either would cost much of the rate of morphing."""


class MemoryShortError(ValueError):
    """A machine has less memory than a run takes; the text says how much each is, and the way out."""


def memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process can have at most, in bytes: the machine's, or less where a control group (a container's,
    a service's) limits it. None where the system does not say.

    Args:
        root: Where `proc` and `sys` are; another one for tests.
    """
    found = []
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")]
    except (OSError, ValueError, IndexError):
        if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in _limit_files(root):
        try:
            found.append(int(limit.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is none, or "max"
            continue
    return min(found, default=None)


def usable_cores() -> int:
    """Cores of this process: a container or a batch system may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that is free now for this process, in bytes: the machine's, or less where its control group is near its
    limit. What the system holds of files and would give back counts as free. None where the system does not say.

    Args:
        root: As of `memory_bytes`.
    """
    found = []
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    for limit in _limit_files(root):
        used = limit.with_name({"memory.max": "memory.current"}.get(limit.name, "memory.usage_in_bytes"))
        try:
            statistics = dict(line.split() for line in limit.with_name("memory.stat").read_text("ascii").splitlines())
            files = int(statistics.get("inactive_file", 0))
            found.append(max(0, int(limit.read_text("ascii")) - int(used.read_text("ascii")) + files))
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def held_bytes(root: Path = Path("/")) -> int:
    """Memory that this process holds now, in bytes; 0 where the system does not say."""
    try:
        lines = (root / "proc/self/status").read_text(encoding="ascii").splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    except (OSError, ValueError, IndexError):
        return 0


def require_memory(needed: int, what: str, fix: str, *, has: int | None = None, whose: str = "this machine") -> None:
    """Refuse what the machine can't hold, before anything of it is taken.

    Args:
        needed: Bytes.
        what: Takes them.
        fix: The way out, for the end of the text.
        has: Bytes of another memory than the machine's.
        whose: That memory's.

    Raises MemoryShortError: `what` takes more than there is.
    """
    has = memory_bytes() if has is None else has
    if has is not None and needed > has:
        raise MemoryShortError(f"{what}: needs {_text(needed)} of memory, {whose} has {_text(has)}; {fix}")


def _limit_files(root: Path) -> list[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    files = []
    for line in lines:
        _, kinds, place = (*line.split(":", 2), "", "")[:3]
        if kinds in ("", "memory"):
            base = root / "sys/fs/cgroup" / kinds
            name = "memory.limit_in_bytes" if kinds else "memory.max"
            own = base / place.lstrip("/")
            files += [folder / name for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return files


def _text(count: int) -> str:
    return f"{count / _GIB:,.1f} GiB" if count >= _GIB else f"{count / 1024**2:,.1f} MiB"


def keep_heap_small() -> None:
    """Let all threads of this process take memory from one heap, and large arrays from outside it. By itself glibc has
    a heap for each thread, and each keeps what its largest arrays have taken.

    To be called before there is a second thread. Does nothing where the C library knows of no such options.
    """
    import ctypes  # the help of most commands needs none

    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in _MALLOC_OPTIONS.values():
            library.mallopt(option, value)
