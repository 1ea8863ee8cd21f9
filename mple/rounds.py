"""What nodes look at about once a second, very many less often, in one thread of the process; else it were thousands.

withdraw = each_second(look)
"""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context

EVERY_S = 1.0
_MOST_SHARE = 0.02
"""Of a core, for all looks together: those of hundreds of nodes come less often for it."""
_LOGGER = logging.getLogger("mple.node")
_changed = threading.Condition()
_looks: dict[object, tuple[Context, Callable[[], object]]] = {}
_begun = False


def each_second(look: Callable[[], object]) -> Callable[[], None]:
    """Have `look` called again and again, `EVERY_S` seconds apart or, where all looks of a process take long, so far
    apart that they take a fiftieth of a core; for the node that this thread works for.

    It must be short, for all others wait meanwhile: what takes long it begins in a thread of its own. What it raises is
    logged, and it is called again.

    Returns:
        What ends it; a look that is under way may still come to its end. A second call does nothing.
    """
    global _begun
    key = object()
    with _changed:
        _looks[key] = copy_context(), look
        if not _begun:
            _begun = True
            threading.Thread(target=_go_round, name="rounds", daemon=True).start()
        _changed.notify()

    def withdraw() -> None:
        with _changed:
            _looks.pop(key, None)

    return withdraw


def _go_round() -> None:
    taken_s = 0.0
    while True:
        with _changed:
            _changed.wait_for(lambda: _looks)
        time.sleep(_pause_s(taken_s))
        began_s = time.thread_time()
        with _changed:
            due = list(_looks.items())
        for key, (context, look) in due:
            if key in _looks:
                context.run(_look, look)
        taken_s = time.thread_time() - began_s


def _pause_s(taken_s: float) -> float:
    """From one round to the next, after one that took so long of a core."""
    return max(EVERY_S, taken_s / _MOST_SHARE)


def _look(look: Callable[[], object]) -> None:
    try:
        look()
    except Exception as fault:  # nobody would look any more
        _LOGGER.error("a look that is due each second failed: %r", fault, exc_info=fault)
