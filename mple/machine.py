"""What the machine has that a process can't do without: memory and cores, by what its container may use of them."""

import os
from pathlib import Path

_GIB = 1024**3


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


def require_memory(needed: int, what: str, fix: str) -> None:
    """Refuse what the machine can't hold, before anything of it is taken.

    Raises MemoryShortError: `what` takes `needed` bytes, and the machine has fewer; the text ends with `fix`.
    """
    has = memory_bytes()
    if has is not None and needed > has:
        raise MemoryShortError(f"{what}: needs {_text(needed)} of memory, this machine has {_text(has)}; {fix}")


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
