"""What each node of a process has for itself: its log, its audit trail, its watch over the disk; and what is common.

A process mostly is one node, and then this is what others call a global variable. `mple-provider run` may hold many
sites, so the value belongs to whichever node the running thread works for: threads that a node starts by `start_thread`
work for it, and so do gRPC's own, which carry the context of the thread that made the call.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Generic, TypeVar, cast

from mple.machine import usable_cores

K = TypeVar("K")
T = TypeVar("T")
_PROCESS: dict[object, object] = {}
_NODE: ContextVar[dict[object, object]] = ContextVar("mple_node", default=_PROCESS)  # changed on purpose
"""The values of the node that the running thread works for."""


IN_TURN = threading.BoundedSemaphore(usable_cores())
"""Around what takes a core for a while, and memory: at more nodes at once than there are cores it would be no faster,
and take more. Nothing that waits for others belongs in it, nor another turn."""


class PerNode(Generic[T]):
    """A variable of which each node of the process has its own; made once, at a module's top."""

    def __init__(self, initial: T) -> None:
        """`initial` is what a node has that has set nothing; nobody may change it."""
        self._initial = initial

    def get(self) -> T:
        """The value of the node that this thread works for."""
        return cast(T, _NODE.get().get(self, self._initial))

    def set(self, value: T) -> None:
        """Give that node another one, in all its threads."""
        _NODE.get()[self] = value


class Common(Generic[K, T]):
    """What the nodes of a process would each work out alike, of what is public to them all: worked out once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: tuple[K, T] | None = None

    def get(self, key: K, make: Callable[[], T]) -> T:
        """What `make` returns for a key: whoever comes first makes it, the others wait, and nobody may change it. The
        newest is kept. What `make` raises is whoever's it is; the next one tries again."""
        with self._lock:
            if self._newest is None or self._newest[0] != key:
                self._newest = key, make()
            return self._newest[1]


def as_another_node(body: Callable[[], T]) -> T:
    """What `body` returns or raises, run in this thread as a node of its own, which has set nothing yet."""
    context = copy_context()
    context.run(_NODE.set, {})
    return context.run(body)


def is_one_of_several() -> bool:
    """Whether this thread works for a node that may have others beside it in this process."""
    return _NODE.get() is not _PROCESS


def start_thread(name: str, body: Callable[[], object]) -> threading.Thread:
    """Begin a thread that works for the same node as this one; it does not keep the process from ending."""
    thread = threading.Thread(target=copy_context().run, args=(body,), name=name, daemon=True)
    thread.start()
    return thread
