"""Memory and processor time of a run's node processes, looked at from outside while they live.

A node's process is the one whose command line names its configuration file: whoever started it need not tell. Peak RSS
is the kernel's own high-water mark; peak PSS, in which a page that several processes share counts once, is the largest
of the looks. To tell it the kernel walks all pages of a process and holds it up meanwhile: not for timed runs.
Processor time is that of the last look, at most one interval before the process ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_MIB = 1024
"""KiB of one; /proc counts in KiB."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessUse:
    """One process over its life."""

    peak_rss_mib: float
    peak_pss_mib: float
    """0 when it was not asked for."""
    cpu_s: float
    threads: int
    """Most at once."""


class ProcessWatch:
    """Looks at processes now and then; a context manager. Linux only."""

    def __init__(self, configs: Mapping[str, Path], *, every_s: float = 1.0, pss: bool = True) -> None:
        """Watch the processes of nodes.

        Args:
            configs: Configuration file by node.
            every_s: Time between two looks.
            pss: Whether to look at PSS.
        """
        self._configs = {str(path).encode(): name for name, path in configs.items()}
        self._every_s, self._pss = every_s, pss
        self._uses: dict[str, ProcessUse] = {}
        self._pids: dict[str, int] = {}
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="watch", daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._looking.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._looking.join()

    @property
    def uses(self) -> dict[str, ProcessUse]:
        """By node, of those that were seen."""
        return dict(self._uses)

    def _look_on(self) -> None:
        while not self._over.wait(self._every_s):
            if len(self._pids) < len(self._configs):
                self._find()
            for name, pid in self._pids.items():
                self._look(name, pid)

    def _find(self) -> None:
        known = set(self._pids.values())
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) in known:
                continue
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            for word in words:
                if word in self._configs:
                    self._pids[self._configs[word]] = int(entry.name)

    def _look(self, name: str, pid: int) -> None:
        process = Path(f"/proc/{pid}")
        try:
            status = _fields(process / "status")
            pss_kib = _fields(process / "smaps_rollup")["Pss"] if self._pss else 0
            ticks = (process / "stat").read_text().rpartition(")")[2].split()
        except (OSError, KeyError):
            return  # it has ended: a process that is not waited for yet has no memory any more
        if "VmHWM" not in status:
            return
        before = self._uses.get(name)
        self._uses[name] = ProcessUse(
            peak_rss_mib=round(status["VmHWM"] / _MIB, 1),
            peak_pss_mib=max(round(pss_kib / _MIB, 1), before.peak_pss_mib if before else 0.0),
            cpu_s=(int(ticks[11]) + int(ticks[12])) / _TICKS_PER_S,
            threads=max(status["Threads"], before.threads if before else 0),
        )


def _fields(path: Path) -> dict[str, int]:
    """Those lines of a file that have a number in their second column."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
