"""Threads for served calls, which outlast a want of threads.

gRPC's server takes calls in one thread of its own. Were the pool behind it to raise there, because the system gives no
further thread, that thread would end, and the node would be deaf until it is started again.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from mple.disk.scarcity import scarcity_of

_AT_ONCE = 4
"""Threads that are there from the start: with none, nobody would take what waits."""
_LOGGER = logging.getLogger("mple.rpc")
P = ParamSpec("P")
T = TypeVar("T")


class PatientPool(ThreadPoolExecutor):
    """A pool whose work waits for one of the threads that there are when the system gives no other."""

    def __init__(self, most: int, name: str) -> None:
        """Of at most so many threads, some of which are started at once."""
        super().__init__(most, thread_name_prefix=name)
        ready = threading.Barrier(min(most, _AT_ONCE) + 1)
        for _ in range(ready.parties - 1):
            super().submit(ready.wait)
        ready.wait()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As the library's, but that want of a thread is only logged: by then the work is in the queue."""
        done: Future[Any] = Future()

        def run() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(fn(*args, **kwargs))
                except BaseException as fault:
                    done.set_exception(fault)

        try:
            super().submit(run)
        except RuntimeError as fault:
            if scarcity_of(fault) is None:
                raise
            _LOGGER.warning("a call waits for a thread: %s", fault)
        return done
