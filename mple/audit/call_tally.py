"""What callers do in the audit trail, so few lines per caller that nobody can fill a disk by calling."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mple.audit.entry import Fact


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """Lines that one caller may have, and the word under which the calls beyond them are told in one line."""

    lines: int
    window_s: float
    word: str


REFUSED = Allowance(lines=10, window_s=10.0, word="refused_more")
ACCEPTED = Allowance(lines=100, window_s=100.0, word="calls_more")
"""As much in the long run, but room for what a caller does at once: a run of many sites begins, a set is predicted."""


@dataclass(slots=True)
class _Window:
    began_s: float
    lines: int = 0
    untold: Counter[str] = field(default_factory=Counter)
    samples: int = 0


class CallTally:
    """Windows of time per caller."""

    def __init__(
        self, write: Callable[..., None], allowed: Allowance, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._allowed, self._clock = write, allowed, clock
        self._windows: dict[str, _Window] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def enter(self, who: str, what: str, result: str, **facts: Fact) -> bool:
        """Write a line, or count it when its caller has had enough lines for now; returns which. OSError as `audit`."""
        now_s = self._clock()
        with self._lock:
            self._counts[who, result] += 1
            ended = {who: each for who, each in self._windows.items() if now_s - each.began_s >= self._allowed.window_s}
            for name in ended:
                del self._windows[name]
            window = self._windows.setdefault(who, _Window(now_s))
            told = window.lines < self._allowed.lines
            if told:
                window.lines += 1
            else:
                window.untold[what if result == "ok" else result] += 1
                window.samples += int(facts.get("samples", 0))
        self._tell(ended)
        if told:
            self._write(who, what, result, **facts)
        return told

    def counts(self) -> dict[tuple[str, str], int]:
        """All calls so far, told or not, by caller and result."""
        with self._lock:
            return dict(self._counts)

    def tell_rest(self) -> None:
        """Write what is still untold, at the node's end; OSError as `audit`."""
        with self._lock:
            ended, self._windows = self._windows, {}
        self._tell(ended)

    def _tell(self, windows: dict[str, _Window]) -> None:
        for who, window in windows.items():
            if window.untold:
                facts: dict[str, Fact] = {"calls": window.untold.total()}
                facts["which"] = ", ".join(f"{what} {count}" for what, count in sorted(window.untold.items()))
                if window.samples:
                    facts["samples"] = window.samples
                self._write(who, self._allowed.word, "ok", **facts)
