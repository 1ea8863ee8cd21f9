"""What a party's process took: seconds by phase, its own processor's among them, and the most memory it had."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from comparison.two_party.contents import Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Lap:
    """One phase of one inference; set-up belongs to none and has number 0."""

    phase: Phase
    inference: int
    """Counted from 1."""
    wall_s: float
    """From the phase's begin to where both parties have ended it."""
    cpu_s: float
    """Of all threads of this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartyOutcome:
    """What a party's process leaves behind."""

    laps: tuple[Lap, ...]
    peak_memory_bytes: int
    """The most that the process had in memory at any time, the interpreter and all libraries included."""
    spool_bytes: int
    """The largest size of its file of garbled tables; 0 where it had none."""
    logits_NK: tuple[tuple[int, ...], ...]
    """Of each picture; the client alone has them."""


class Stopwatch:
    """Takes the time of one process."""

    def __init__(self) -> None:
        self.laps: list[Lap] = []

    @contextmanager
    def lap(self, phase: Phase, inference: int) -> Iterator[None]:
        """Time a phase of an inference."""
        wall, cpu = time.monotonic(), time.process_time()
        yield
        lap = Lap(phase=phase, inference=inference, wall_s=time.monotonic() - wall, cpu_s=time.process_time() - cpu)
        self.laps.append(lap)
