"""Refused calls in the audit trail, so few per caller that nobody can fill a disk by being refused."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mple.audit.entry import Fact

MOST_LINES = 10
"""Lines of one caller within a window; further refusals are counted and told in one line more."""
WINDOW_S = 10.0


@dataclass(slots=True)
class _Window:
    began_s: float
    calls: int = 0


class RefusalTally:
    """Windows of time per caller."""

    def __init__(self, write: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._windows: dict[str, _Window] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def refused(self, who: str, result: str, **facts: Fact) -> None:
        """Write a line for a refusal, or count it when its caller has had enough lines for now; OSError as `audit`."""
        now_s = self._clock()
        with self._lock:
            self._counts[who, result] += 1
            ended = {name: window for name, window in self._windows.items() if now_s - window.began_s >= WINDOW_S}
            for name in ended:
                del self._windows[name]
            window = self._windows.setdefault(who, _Window(now_s))
            window.calls += 1
            told = window.calls <= MOST_LINES
        self._tell(ended)
        if told:
            self._write(who, "refused", result, **facts)

    def counts(self) -> dict[tuple[str, str], int]:
        """All refusals so far, told or not, by caller and result."""
        with self._lock:
            return dict(self._counts)

    def tell_rest(self) -> None:
        """Write what is still untold, at the node's end; OSError as `audit`."""
        with self._lock:
            ended, self._windows = self._windows, {}
        self._tell(ended)

    def _tell(self, windows: dict[str, _Window]) -> None:
        for who, window in windows.items():
            if window.calls > MOST_LINES:
                self._write(who, "refused_more", "ok", calls=window.calls - MOST_LINES)
