"""A thread of a node that can't fail unseen."""

from collections.abc import Callable

from mple.disk.storage_faults import note_storage_fault
from mple.per_node import start_thread


class Worker:
    """Runs a body in a thread of its own, from the start on.

    Guarantees: whatever exception ends the body reaches `on_fault`, in that thread; one of the disk is noted before.
    """

    def __init__(self, name: str, body: Callable[[], None], on_fault: Callable[[Exception], None]) -> None:
        self._body, self._on_fault = body, on_fault
        self._thread = start_thread(name, self._run)

    def join(self, grace_s: float | None = None) -> None:
        """Wait for its end, `grace_s` seconds at most: a process that ends while one is within torch is aborted."""
        self._thread.join(grace_s)

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as fault:
            note_storage_fault(fault)
            self._on_fault(fault)
