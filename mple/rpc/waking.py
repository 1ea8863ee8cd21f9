"""How coroutines that serve calls sleep, and how threads wake the right ones: no call is looked at without a reason."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Wake:
    """What one coroutine sleeps on; any thread may end the sleep. Clear it, look, then wait: nothing is missed."""

    def __init__(self) -> None:
        """For a coroutine of the running loop."""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the sleep, or the next one where nobody sleeps."""
        self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Forget what was set so far."""
        self._event.clear()

    async def wait(self) -> None:
        """Sleep until it is set."""
        await self._event.wait()


class Listeners:
    """Who is to be woken, by name; several may have one name. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    @contextmanager
    def listening(self, wake: Callable[[], None], *names: str) -> Iterator[None]:
        """Have `wake` called for these names within the block; it must not block."""
        with self._lock:
            for name in names:
                self._wakes[name].append(wake)
        try:
            yield
        finally:
            with self._lock:
                for name in names:
                    self._wakes[name].remove(wake)
                    if not self._wakes[name]:
                        del self._wakes[name]

    def wake(self, name: str) -> None:
        """Wake those of one name."""
        with self._lock:
            wakes = list(self._wakes.get(name, ()))
        for wake in wakes:
            wake()

    def wake_all(self) -> None:
        """Wake everybody, once."""
        with self._lock:
            wakes = {wake for named in self._wakes.values() for wake in named}
        for wake in wakes:
            wake()
