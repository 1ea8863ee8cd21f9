"""The event loop in which all servers of this process wait for all of their calls: one thread, however many there are.

Nothing in it waits for a disk, a lock that is held for long, or a party: what may runs in a pool's thread.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_made = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def serving_loop() -> asyncio.AbstractEventLoop:
    """The loop; the first call starts it, and it runs for as long as the process does.

    Raises RuntimeError, OSError: the system has no thread or no descriptors for it.
    """
    with _made:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="calls", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that runs in the loop; not for the loop's own thread."""
    return asyncio.run_coroutine_threadsafe(work, serving_loop()).result()
