"""Nodes as real processes that start in a tenth of the time: forked from one that has imported all they need.

This process must hold no channel, server or thread when it forks. Each node is a process of its own from then on, in a
session of its own, runs the very entry point of its command, and can be killed as any other.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence

from compute_node.command import main as compute
from coordinator.node import main as coordinator
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from provider_node.node import main as provider

_PR_SET_PDEATHSIG = 1
_MAINS: dict[str, tuple[Callable[[Sequence[str] | None], int], str]] = {
    COORDINATOR: (coordinator, "serve"),
    COMPUTE: (compute, "serve"),
}


class ForkedNodes:
    """The nodes of one run folder. A context manager: on the way out all are killed."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.running: dict[str, int] = {}
        """Process ids by node."""

    def __enter__(self) -> ForkedNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(list(self.running))

    def start(self, names: Iterable[str]) -> None:
        """Start nodes by their own commands; what they print is appended to their `log.txt`."""
        for name in names:
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                self._become(name)
            self.running[name] = child

    def kill(self, names: Iterable[str]) -> None:
        """Kill nodes at once, as `kill -9` does, and wait until they are gone."""
        gone = [self.running.pop(name) for name in names if name in self.running]
        for child in gone:
            os.kill(child, signal.SIGKILL)
        for child in gone:
            os.waitpid(child, 0)

    def ended(self) -> dict[str, int]:
        """Exit codes of those that have ended since the last call."""
        codes = {}
        for name, child in list(self.running.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                codes[name] = os.waitstatus_to_exitcode(status)
                del self.running[name]
        return codes

    def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds; False when it did not in time, or a node ended meanwhile."""
        give_up_at = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > give_up_at or self.ended():
                return False
            time.sleep(0.01)
        return True

    def _become(self, name: str) -> None:
        code = 5
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            text = os.open(self._folder.log_text(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(text, stream)
            main, verb = _MAINS.get(name, (provider, "run"))
            code = main([verb, str(self._folder.config(name))])
        except BaseException:  # nothing of this child may go on in the parent's code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
