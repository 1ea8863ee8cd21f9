"""The node commands as child processes: started, watched, and all of them gone at the end, whatever happens.

Also when this process is killed, and can't see to it any more: Linux then kills the children, as each has asked it to.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mple.disk.private import private_file
from mple.exit_codes import ExitCode
from mple.simulate.descendants import descendants, ranks_of

_MODULES = {"mple-coordinator": "coordinator", "mple-compute": "compute_node", "mple-provider": "provider_node"}


def command(program: str) -> list[str]:
    """How to start a node's command with this interpreter: the installed script, or its module."""
    script = Path(sys.executable).with_name(program)
    return [str(script)] if script.exists() else [sys.executable, "-m", _MODULES[program]]


def ranks_command(ranks: int, restarts: int) -> list[str]:
    """How to start a compute node of several ranks; when one ends all are started again, up to so many times."""
    launcher = [sys.executable, "-m", "mple.simulate.rank_launcher"]
    return [*launcher, f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "-m", _MODULES["mple-compute"]]


_TIED = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which outlasts `exec`
    if os.getppid() != int(sys.argv[1]):  # the parent was killed before this
        sys.exit(137)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Run in the child before its command: in the parent, between `fork` and `exec`, threads make everything unsafe."""


def tied(arguments: Sequence[str]) -> list[str]:
    """A command as a child that is killed when this process ends, in whichever way, `kill -9` included.

    Guarantees: on Linux; elsewhere it is the command alone. Process id, exit code and signals are the command's own.
    The thread that starts the child must live as long as the child may: the system takes its end for the process's.
    What the child starts is not tied to it, unless it does so itself.
    """
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *arguments]


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended."""

    name: str
    code: int


class Children:
    """Child processes, each in a process group of its own, so that stopping one stops whatever it has started, and
    `tied` to this one. A context manager: on the way out every child that still runs is stopped."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.stop()

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the children that have not been seen to end."""
        return tuple(self._running)

    def start(self, name: str, arguments: Sequence[str], *, log_text: Path, threads: int, nice: int = 0) -> None:
        """Start a node's command as a child; what it prints is appended to a file. `threads` of the numeric libraries
        are set before these are loaded, as they read it only then. `nice` is how far the child steps back for the other
        processes, 0 to 19."""
        # Threads that wait must sleep: while they spin they take the cores from the other nodes. A millisecond of it
        # bridges the gaps within a training step.
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE", PYTHONUNBUFFERED="1")
        if threads > 1:
            environment["GOMP_SPINCOUNT"] = "300000"
        with private_file(log_text).open("ab") as out:
            child = self._running[name] = subprocess.Popen(  # noqa: S603
                tied(arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        if nice:
            _step_back(child.pid, nice)

    def kill(self, name: str) -> int | None:
        """Kill a running child, and all that it has started, as `kill -9` does and wait until it is gone. Returns its
        shell code, 137 unless it had just ended by itself; None when it does not run."""
        child = self._running.pop(name, None)
        if child is None:
            return None
        _signal_whole([child], signal.SIGKILL)
        return _shell_code(child.wait())

    def kill_rank(self, name: str, rank: int) -> bool:
        """Kill one rank of a running compute node as `kill -9` does; whoever started it starts all anew. False when it
        does not run."""
        pid = self.ranks(name).get(rank)
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def ranks(self, name: str) -> dict[int, int]:
        """Process ids of the ranks of a running compute node; none where it has no launcher, or no rank runs."""
        child = self._running.get(name)
        return {} if child is None or child.poll() is not None else ranks_of(child.pid)

    def pause(self, name: str) -> bool:
        """Hold a running child and all that it has started where they are (SIGSTOP); False when it does not run."""
        child = self._running.get(name)
        if child is None or child.poll() is not None:
            return False
        _signal_whole([child], signal.SIGSTOP)
        return True

    def go_on(self, name: str) -> None:
        """Let a held child run again (SIGCONT); nothing happens to others."""
        _signal_whole([self._running[name]] if name in self._running else (), signal.SIGCONT)

    def starve(self, name: str) -> Callable[[], None] | None:
        """Have a running child, or its ranks where it has any, open no further file or connection; what is open stays.
        Linux only.

        Returns:
            What gives back what might be opened before; None when it does not run.
        """
        child = self._running.get(name)
        if child is None or child.poll() is not None:
            return None
        undo = [_starved(pid) for pid in tuple(ranks_of(child.pid).values()) or (child.pid,)]

        def feed() -> None:
            if self._running.get(name) is child and child.poll() is None:
                for one in undo:
                    one()

        return feed

    def ended(self) -> list[Ended]:
        """Children that have ended since the last call; a signal's number counts as 128 + number, as in a shell."""
        over = {name: child for name, child in self._running.items() if child.poll() is not None}
        for name in over:
            del self._running[name]
        _signal_all(over.values(), signal.SIGKILL)  # whatever a child has left behind in its group goes with it
        return [Ended(name, _shell_code(child.returncode)) for name, child in over.items()]

    def stop(self) -> list[Ended]:
        """Ask every child to stop, wait, kill what is left after the grace time; returns how they ended."""
        _signal_all(self._running.values(), signal.SIGTERM)
        _signal_whole(self._running.values(), signal.SIGCONT)  # a held child would hear nothing
        give_up_at = time.monotonic() + self._grace_s
        for child in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, give_up_at - time.monotonic()))
        stopped = self.ended()
        _signal_whole(self._running.values(), signal.SIGKILL)
        for child in self._running.values():
            child.wait()
        return stopped + self.ended()


def root_cause(ended: Sequence[Ended], blamed: str = "") -> Ended | None:
    """Of children that ended together, the one whose failure the others' follows from; None when none failed. They come
    in the order in which they were seen to end; `blamed` is the node that the coordinator has named, if any."""
    failed = [item for item in ended if item.code != ExitCode.DONE]
    named = [item for item in failed if item.name == blamed]
    own = [item for item in failed if item.code not in (ExitCode.RUN_FAILED, ExitCode.INTERRUPTED)]
    return next(iter(named or own or failed), None)


def _step_back(pid: int, nice: int) -> None:
    """Lower the priority of a process that has just begun and so has no threads yet: those inherit it. Where Linux
    shares the processor between sessions first (`sched_autogroup_enabled`), and each child has a session of its own, a
    process's number says nothing to others: the session's must be lowered, too."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended; no such sharing
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _starved(pid: int) -> Callable[[], None]:
    """As `Children.starve`, of one process."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    # The lowest free number: a new one must lie below the limit, and `poll` takes no more than the limit.
    lowest = next(number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))

    def feed() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    return feed


def _signal_whole(children: Iterable[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Children with their groups, and what they have started in sessions of its own, as a launcher does its ranks."""
    for child in children:
        others = descendants(child.pid)
        _signal_all([child], number)
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _signal_all(children: Iterable[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(child.pid, number)
