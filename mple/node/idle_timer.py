"""Time without progress, as a pure state: what a wait may cost before it is given up.

A process that was stopped (SIGSTOP, a suspended virtual machine) or starved finds the clock far ahead when it goes on.
That leap says nothing of the others, so it does not count: only time in which this process was there to see counts.
"""

from collections.abc import Callable

LOOK_EVERY_S = 1.0
"""How often whoever waits should look."""
_MOST_AT_ONCE_S = 3 * LOOK_EVERY_S


class IdleTimer:
    """Counts the time since the last progress; callers look about every `LOOK_EVERY_S` seconds."""

    def __init__(self, budget_s: float, clock: Callable[[], float]) -> None:
        self._budget_s, self._clock = budget_s, clock
        self._spent_s = 0.0
        self._seen_s = clock()

    def renew(self) -> None:
        """Something has moved: all of the budget is there again."""
        self._spent_s, self._seen_s = 0.0, self._clock()

    def left_s(self) -> float:
        """What is left of the budget; 0 or less when it is spent."""
        now_s = self._clock()
        self._spent_s += min(max(0.0, now_s - self._seen_s), _MOST_AT_ONCE_S)
        self._seen_s = now_s
        return self._budget_s - self._spent_s
