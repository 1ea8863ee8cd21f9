"""The most memory that a process has had. The standard library only: programs in other environments import this."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """The most that this process has had in memory since it was started, the interpreter and all libraries included."""
    if _STATUS.exists():  # what `getrusage` gives there begins with the size of the process that started this one
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
