"""The wish that a node end: set once, from any thread, and whoever waits is woken.

Nobody has to ask in turns: a loop that waits on a queue or a gRPC call registers with `on_set` what wakes it.
"""

import threading
from collections.abc import Callable


class Stop:
    """Set once and for good. Thread-safe, but not for signal handlers: `mple.node.entry` keeps those off it.

    Guarantees: a callback runs exactly once, in the thread that sets the wish or, if it is set already, in the one that
    registers; a callback that was withdrawn before does not run. Callbacks must be short and must not raise.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: dict[object, Callable[[], object]] = {}

    def set(self) -> None:
        """Ask the node to end; a second call does nothing."""
        with self._lock:
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
            self._event.set()
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Whether the node is to end."""
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the node is to end, or for `timeout_s` seconds; whether it is to end."""
        return self._event.wait(timeout_s)

    def on_set(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Run `callback` once the node is to end, at once if it already is.

        Returns:
            What withdraws the callback; harmless after it has run.
        """
        key = object()
        with self._lock:
            if not self._event.is_set():
                self._callbacks[key] = callback
                return lambda: self._withdraw(key)
        callback()
        return lambda: None

    def _withdraw(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
