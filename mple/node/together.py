"""Several nodes in one process, each with a life of its own: whatever ends one of them, the others go on.

Each lives in a thread, as a node of its own (`mple.per_node`): its own state folder, certificate, log, audit trail,
ledger, connections and wish to end. What they share is the process: its memory, its descriptors, its signals, its end.
"""

import queue
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mple.disk.scarcity import raise_own_limit, require_descriptors
from mple.exit_codes import ExitCode
from mple.node.ending import say_fault
from mple.node.life import Ending, live
from mple.node.logs import close_log
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.per_node import PerNode, as_another_node

S = TypeVar("S")
_DESCRIPTORS = 20
"""Of a node among several, at most: ledger, log, audit trail, lock, two connections, and files that it opens."""
_nodes: PerNode[int] = PerNode(1)
_FEW, _SWITCH_S = 16, 0.1
"""Every thread that waits for the interpreter's lock wakes up that often to ask for it, by default each 5 ms: the
threads of more nodes than these would take the processors for nothing else."""
_FOLLOWING = (ExitCode.RUN_FAILED, ExitCode.INTERRUPTED)
"""What a node ends with when another one or somebody has ended the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneNode(Generic[S]):
    """One of the nodes of a process."""

    name: str
    """For the process's words: "site north"."""
    settings: S


def run_together(program: str, nodes: Sequence[OneNode[S]], body: Callable[[S, Stop], None]) -> int:
    """Run nodes as all that this process does from here on, each until its own end, and return the exit code.

    SIGTERM, Ctrl-C and SIGHUP ask them all to end. Whatever ends one is said on stderr at that moment; the last words
    and the exit code are those of the first that failed by a cause of its own, or else of the first that failed.

    Raises ExitError: the process may not open enough files for so many.
    """
    raise_own_limit()
    require_descriptors(_DESCRIPTORS * len(nodes), f"{len(nodes)} nodes in one process")
    if len(nodes) > _FEW:
        sys.setswitchinterval(_SWITCH_S)
    ended: queue.SimpleQueue[tuple[OneNode[S], Ending]] = queue.SimpleQueue()
    with stop_on_signals(last=True) as stop:
        lives = [_begin(node, body, stop, ended, len(nodes)) for node in nodes]
        endings = []
        for _ in nodes:
            node, ending = ended.get()
            endings.append((node, ending))
            if ending.told is not None:
                say_fault(f"{program}: {node.name}", ending.told)
        for life in lives:
            life.join()
    failed = [(node, ending) for node, ending in endings if ending.code is not ExitCode.DONE]
    own = [(node, ending) for node, ending in failed if ending.code not in _FOLLOWING]
    if not failed:
        return int(ExitCode.DONE)
    node, ending = (own or failed)[0]
    if ending.told is not None and len(failed) > 1:
        say_fault(f"{program}: {len(failed)} of {len(nodes)} have not finished; first {node.name}", ending.told)
    return int(ending.code)


def nodes_here() -> int:
    """How many nodes the process of this thread's node holds."""
    return _nodes.get()


def _begin(
    node: OneNode[S],
    body: Callable[[S, Stop], None],
    stop: Stop,
    ended: "queue.SimpleQueue[tuple[OneNode[S], Ending]]",
    nodes: int,
) -> threading.Thread:
    own = Stop()
    withdraw = stop.on_set(own.set)

    def alone() -> Ending:
        _nodes.set(nodes)
        try:
            return live(lambda: node.settings, body, own)
        finally:
            own.set()  # whatever of it still waits
            close_log()

    def whole() -> None:
        try:
            ending = as_another_node(alone)
        except Exception as fault:  # nobody would hear of its end
            ending = Ending(code=ExitCode.INTERNAL, told=fault)
        withdraw()
        ended.put((node, ending))

    thread = threading.Thread(target=whole, name=node.name, daemon=True)
    thread.start()
    return thread
