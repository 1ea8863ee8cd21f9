"""Where the trainer's time goes: what it waits for, and what its first layer takes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum


class Use(StrEnum):
    """What the trainer's thread does when it does not train the trunk."""

    SAMPLES = "samples"
    """Waits for samples that are not here, not read or not decoded yet."""
    SCORES = "scores"
    """Waits for the sites' scores of an epoch."""
    CHECKPOINTS = "checkpoints"
    """Copies its state for a checkpoint, and waits until the one before is written."""
    RANKS = "ranks"
    """Waits for what other ranks have to say of a step or a scoring."""
    REPORTS = "reports"
    """Tells the coordinator an epoch's results."""
    FIRST_LAYER = "first_layer"
    """Applies augmented layers."""


IDLE = (Use.SAMPLES, Use.SCORES, Use.CHECKPOINTS, Use.RANKS, Use.REPORTS)
"""Uses in which no training goes on."""


class TrainerTime:
    """Seconds by use, added up by one thread; others may read them meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(Use, 0.0)

    @contextmanager
    def spent(self, use: Use) -> Iterator[None]:
        """Count the time of a block."""
        began_s = self._clock()
        try:
            yield
        finally:
            self._seconds[use] += self._clock() - began_s

    def restore(self, seconds: Mapping[str, float]) -> None:
        """Go on from what `seconds` said."""
        self._seconds = {use: seconds.get(use, 0.0) for use in Use}

    def seconds(self) -> dict[Use, float]:
        """Seconds of each use so far."""
        return dict(self._seconds)

    @property
    def first_layer_seconds(self) -> float:
        """In augmented layers, so far."""
        return self._seconds[Use.FIRST_LAYER]

    @property
    def idle_seconds(self) -> float:
        """Of all uses in which no training goes on, so far."""
        return sum(self._seconds[use] for use in IDLE)


def idle_shares(before: Mapping[Use, float], after: Mapping[Use, float], elapsed_s: float) -> dict[str, float]:
    """The parts of a time in which the trainer was idle, by cause, 0 to 1."""
    return {use.value: min(1.0, (after[use] - before[use]) / elapsed_s) for use in IDLE}
