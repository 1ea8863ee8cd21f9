"""One simulated run from its settings to its summary."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from mple.exit_codes import ExitCode, ExitError
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.records.run_folder import COMPUTE, COORDINATOR, RunEnd, RunFolder
from mple.report import Summary, print_summary, summarise
from mple.report.run_facts import typed_command
from mple.report.tables import say
from mple.simulate.children import Children, Ended, command, ranks_command, root_cause
from mple.simulate.foresight import foreseen_memory
from mple.simulate.laying_out import lay_out
from mple.simulate.processes import NodeProcess, processes_of
from mple.simulate.progress import Progress
from mple.simulate.run_monitor import RunMonitor
from mple.simulate.screen import Screen
from mple.simulate.settings import SimulationSettings

_LOOK_EVERY_S, _LOOK_AT_END_S = 0.2, 0.02
_OTHERS_GRACE_S = 5.0
_LAST_WORDS = 3
_MOST_LOG_BYTES = 64 * 1024
RunDriver = Callable[[Children, RunMonitor, Progress, Screen, Stop], Ended | None]
"""Starts a run's nodes and follows them: None when all have ended well or the event is set, else the failed one."""


class SimulationError(ExitError):
    """A node failed; the text says which and why, `code` is the exit code that follows."""


def simulate(settings: SimulationSettings, out: Path, console: Console, *, plain: bool = False) -> Summary | None:
    """Run a whole consortium on this machine and sum it up; None when it was interrupted.

    Every child process is gone when this returns or raises, and the run folder, `out`, is readable. Progress and the
    final table go to the console; `plain` shows lines instead of a live view, on a terminal too.

    Raises ValueError: the folder is not empty, or this machine has less memory than all nodes will take;
    SimulationError: a node failed.
    """
    if line := foreseen_memory(settings):
        say(console, line)
    return run_nodes(lay_out(out, settings), settings, console, plain=plain)


def run_nodes(
    folder: RunFolder,
    settings: SimulationSettings,
    console: Console,
    *,
    plain: bool = False,
    driver: RunDriver | None = None,
    ledger_every_s: float = 1.0,
    tables: bool = True,
) -> Summary | None:
    """Run the nodes of a folder that `lay_out` has made and sum the run up; None when it was interrupted.

    Args:
        folder: The run's.
        settings: It was laid out for these.
        console: Where progress and the final table go.
        plain: Lines instead of a live view, on a terminal too.
        driver: How the nodes are started and followed; undisturbed by default.
        ledger_every_s: Time between two readings of the ledgers.
        tables: Print the summary.

    Raises SimulationError: a node failed.
    """
    say(console, f"nodes, configurations and logs are in {folder.path / 'nodes'}")
    progress, monitor = Progress(), RunMonitor(folder, ledger_every_s=ledger_every_s)
    with (
        stop_on_signals() as interrupted,
        Screen(console, plain=plain) as screen,
        Children(settings.machine.stop_grace_s) as children,
    ):
        follow = driver or undisturbed(folder, settings)
        failed = follow(children, monitor, progress, screen, interrupted)
        if interrupted.is_set():
            children.stop()
        monitor.read(progress, whole=True)
        screen.show(progress)
    if interrupted.is_set():
        folder.note_end(RunEnd.INTERRUPTED, "stopped by Ctrl-C, SIGTERM or SIGHUP")
        return None
    if failed is not None:
        text = _failure_text(failed, _process(settings, failed.name).log_text(folder))
        folder.note_end(RunEnd.FAILED, text)
        raise SimulationError(text, ExitCode(failed.code) if failed.code in set(ExitCode) else ExitCode.INTERNAL)
    summary = summarise(folder.path, typed_command())
    # The templates' library takes a moment to load: only now.
    from mple.report.page import write_page

    page = write_page(summary)
    if tables:
        print_summary(summary, console)
        say(console, f"the page is {page}")
    return summary


def start_process(
    children: Children,
    folder: RunFolder,
    settings: SimulationSettings,
    process: NodeProcess,
    around: Callable[[Sequence[str]], list[str]] = list,
    restarts: int = 0,
) -> None:
    """Start a process of a run, for the first time or again: the command is the same, within what `around` makes of
    it. Where the compute node has ranks, they are started again so many times when one of them ends."""
    machine, name, ranks = settings.machine, process.name, settings.training.ranks
    commands = {
        COORDINATOR: [*command("mple-coordinator"), "serve"],
        COMPUTE: [*(ranks_command(ranks, restarts) if ranks > 1 else command("mple-compute")), "serve"],
    }
    whole = commands.get(name, [*command("mple-provider"), "run"])
    children.start(
        name,
        around([*whole, *(str(folder.config(node)) for node in process.nodes)]),
        log_text=process.log_text(folder),
        threads=settings.rank_threads if name == COMPUTE else machine.site_threads,
        nice=0 if name == COMPUTE else machine.site_nice,
    )


def first_failure(
    children: Children,
    ended: list[Ended],
    monitor: RunMonitor,
    progress: Progress,
    processes: Sequence[NodeProcess],
) -> Ended | None:
    """Of processes that have ended, the one whose failure others' may follow from; those get a while to end, too."""
    if root_cause(ended) is None:
        return None
    give_up_at = time.monotonic() + _OTHERS_GRACE_S
    while children.running and time.monotonic() < give_up_at:
        time.sleep(_LOOK_EVERY_S)
        ended = ended + children.ended()
    monitor.read(progress, whole=True)
    blamed = next((process.name for process in processes if progress.failed_party in process.nodes), "")
    return root_cause(ended, blamed)


def undisturbed(
    folder: RunFolder,
    settings: SimulationSettings,
    around: Callable[[str, Sequence[str]], list[str]] = lambda _name, arguments: list(arguments),
) -> RunDriver:
    """A driver that starts every process once, each by what `around` makes of its name and its command."""
    processes = processes_of(settings)

    def driver(
        children: Children, monitor: RunMonitor, progress: Progress, screen: Screen, interrupted: Stop
    ) -> Ended | None:
        for process in processes:
            start_process(children, folder, settings, process, partial(around, process.name))
        shown_s = time.monotonic()
        while children.running and not interrupted.wait(_look_s(children, len(processes))):
            if time.monotonic() - shown_s >= _LOOK_EVERY_S:
                shown_s = time.monotonic()
                monitor.read(progress)
                screen.show(progress)
            failed = first_failure(children, children.ended(), monitor, progress, processes)
            if failed is not None:
                return failed
        return None

    return driver


def _look_s(children: Children, started: int) -> float:
    """Time until the next look for ended processes: when one has ended, the others are about to."""
    return _LOOK_EVERY_S if len(children.running) == started else _LOOK_AT_END_S


def _process(settings: SimulationSettings, name: str) -> NodeProcess:
    return next(process for process in processes_of(settings) if process.name == name)


def _failure_text(failed: Ended, path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MOST_LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    own = [line for line in lines if line.startswith("mple-")] or lines
    words = "\n  ".join(own[-_LAST_WORDS:]) or "it printed nothing"
    return f"node {failed.name} ended with code {failed.code}:\n  {words}\nits whole log is {path}"
