"""Reads what the nodes of a run folder write while they write it: logs, metrics, ledgers."""

import sqlite3
import time
from pathlib import Path

from mple.disk.damage import DamagedError
from mple.meter import SAMPLE_KINDS
from mple.plan import PlanError
from mple.records.log_events import read_log_line
from mple.records.plan_file import kept_plan
from mple.records.run_folder import COMPUTE, RunFolder
from mple.records.state_files import LEDGER, LOG, METRICS
from mple.records.training import metrics_from_line
from mple.rpc.identity import rank_label
from mple.simulate.progress import Progress, SiteProgress

_SITES_AT_ONCE = 8
_KINDS = ", ".join(f"'{kind}'" for kind in SAMPLE_KINDS)
_SUMS = (
    f"SELECT direction, SUM(framed_bytes), SUM(CASE WHEN kind IN ({_KINDS}) THEN samples ELSE 0 END) "  # noqa: S608
    "FROM messages GROUP BY direction"
)


class LineTail:
    """Follows a file of lines; a line that is still being written is left for the next call. A file whose end was cut
    off meanwhile, as a compute node does that resumes, is read from its beginning again."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._last = path, 0, b""

    def new_lines(self) -> list[bytes]:
        """Whole lines since the last call; none while there is no file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                data = file.read()
                if not data.startswith(self._last):
                    file.seek(0)
                    data, self._offset, self._last = file.read(), 0, b""
        except FileNotFoundError:
            return []
        whole = data[len(self._last) : data.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        if lines:
            self._offset, self._last = self._offset + len(whole), lines[-1]
        return [line for line in lines if line.strip()]


class RunMonitor:
    """All readings of one run; ledgers are read less often than the rest. Of very many sites a reading looks at some,
    the next one at the next: a look at a thousand files would take the processors from the nodes."""

    def __init__(self, folder: RunFolder, *, ledger_every_s: float = 1.0) -> None:
        self._folder, self._ledger_every_s = folder, ledger_every_s
        self._logs = {name: LineTail(folder.state(name) / LOG) for name in folder.nodes}
        self._next_log = self._next_ledger = 0
        """Place of the site whose turn it is."""
        for rank, state in enumerate(folder.compute_states[1:], 1):
            self._logs[rank_label(COMPUTE, rank)] = LineTail(state / LOG)
        self._metrics = LineTail(folder.state(COMPUTE) / METRICS)
        self._ledgers_read_s = time.monotonic()
        self._read_s = dict.fromkeys(folder.sites, self._ledgers_read_s)
        self._planned = False

    def read(self, progress: Progress, *, whole: bool = False) -> None:
        """Bring a progress up to date; `whole` looks at every site."""
        for name in self._folder.sites:
            progress.sites.setdefault(name, SiteProgress(name))
        self._read_plan(progress)
        sites, self._next_log = self._turn(self._next_log, whole=whole)
        for name in (*(name for name in self._folder.nodes if name not in progress.sites), *sites):
            for line in self._logs[name].new_lines():
                progress.read_log(name, read_log_line(line))
        for line in self._metrics.new_lines():
            if progress.training_began_s is None:
                progress.training_began_s = time.monotonic()
            progress.read_metrics(metrics_from_line(line))
        now_s = time.monotonic()
        if now_s - self._ledgers_read_s >= self._ledger_every_s:
            self._ledgers_read_s = now_s
            sites, self._next_ledger = self._turn(self._next_ledger, whole=whole)
            for name in sites:
                self._read_ledger(progress, name, now_s - self._read_s[name])
                self._read_s[name] = now_s

    def _turn(self, first: int, *, whole: bool) -> tuple[tuple[str, ...], int]:
        """The sites to look at from a place on, and the place behind them."""
        sites = self._folder.sites
        if whole or len(sites) <= _SITES_AT_ONCE:
            return sites, 0
        return (sites[first:] + sites[:first])[:_SITES_AT_ONCE], (first + _SITES_AT_ONCE) % len(sites)

    def _read_plan(self, progress: Progress) -> None:
        if self._planned:
            return
        try:
            plan = kept_plan(self._folder.state(COMPUTE))
        except (PlanError, DamagedError):
            return  # the node itself says what is wrong with it
        if plan is None:
            return
        self._planned = True
        progress.plan, progress.training.epochs = plan.sha256().hex()[:16], plan.training.epochs
        for site in plan.sites:
            progress.sites[site.name].images = site.images

    def _read_ledger(self, progress: Progress, site: str, elapsed_s: float) -> None:
        path = self._folder.state(site) / LEDGER
        if not path.exists():
            return
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            sums = {way: (size, samples) for way, size, samples in database.execute(_SUMS)}
        except sqlite3.OperationalError:
            return  # the node is just making the file
        finally:
            database.close()
        up, samples = sums.get("sent", (0, 0))
        down, _ = sums.get("received", (0, 0))
        progress.read_ledger(site, samples=samples, up=up, down=down, elapsed_s=elapsed_s)
