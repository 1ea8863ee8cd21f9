"""A fuzzing campaign: mutated messages over real channels to all three parties, and the figures that come of it."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mple.rpc import MpleError
from tests.fuzz import compute_target, coordinator_target
from tests.fuzz.compute_target import ComputeTarget
from tests.fuzz.coordinator_target import CoordinatorTarget
from tests.fuzz.corpus import keep
from tests.fuzz.mutation import Mutator
from tests.fuzz.shots import Outcome, Shot, Watchdog
from tests.fuzz.site_target import SiteTarget
from tests.support.served import PartyTls

Target = CoordinatorTarget | ComputeTarget | SiteTarget
CALLS_PER_ROUND = 150
"""Calls to one target before it is begun anew: state that fills up would hide what lies behind it."""
_WARM_UP_ROUNDS = 20
MOST_GROWTH_MIB = 50.0


@dataclass
class Figures:
    """What a campaign has done and found."""

    seed: int
    messages: int = 0
    calls: int = 0
    messages_by_rpc: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    internal: int = 0
    unhandled_exceptions: int = 0
    hangs: int = 0
    dead_targets: int = 0
    rss_after_warm_up_mib: float = 0.0
    rss_growth_mib: float = 0.0
    seconds: float = 0.0
    finds: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        found = self.internal + self.unhandled_exceptions + self.hangs + self.dead_targets
        return found == 0 and self.rss_growth_mib < MOST_GROWTH_MIB

    def to_json(self) -> str:
        """The figures as a file."""
        counted = {"messages_by_rpc", "outcomes"}
        fields = {k: dict(sorted(v.items())) if k in counted else v for k, v in vars(self).items()}
        return json.dumps(fields | {"clean": self.clean}, indent=2) + "\n"


def campaign(
    messages: int,
    seed: int,
    folder: Path,
    party_tls: PartyTls,
    *,
    finds: Path | None = None,
    tell: Callable[[Figures], None] = lambda _figures: None,
) -> Figures:
    """Send so many messages and count what they cause.

    Args:
        messages: Mutated messages, about a seventh of them valid; the campaign ends with the round that reaches it.
        seed: The same seed draws the same messages; what a target answers also depends on its threads.
        folder: For the targets' files.
        party_tls: Certificates.
        finds: Where calls that found something are kept for the corpus.
        tell: Told after each round.
    """
    figures, draw = Figures(seed), random.Random(seed)
    mutator, began = Mutator(draw), time.monotonic()
    prepared = folder / "prepared"
    coordinator_target.prepare(prepared)
    with Watchdog() as watchdog, _errors() as errors:
        for number, (target, calls) in enumerate(_rounds(folder, prepared, party_tls, draw)):
            try:
                for _ in range(calls):
                    for shot, outcome in target.next(draw, mutator):
                        _count(figures, shot, outcome)
                        found = _finding(outcome, errors, watchdog)
                        if found:
                            figures.unhandled_exceptions += not found.startswith(("INTERNAL", "HANG"))
                            figures.finds.append(f"{shot.method} by {shot.caller} in {shot.phase}: {found[-1500:]}")
                            if finds is not None:
                                keep(finds, shot, outcome.sent)
                    if figures.messages >= messages:
                        break
                if not target.alive():
                    figures.dead_targets += 1
                    figures.finds.append(f"{target.name} in {target.phase} serves nobody any more")
            finally:
                target.close()
            if number == _WARM_UP_ROUNDS:
                figures.rss_after_warm_up_mib = rss_mib()
            if number > _WARM_UP_ROUNDS:
                figures.rss_growth_mib = round(rss_mib() - figures.rss_after_warm_up_mib, 1)
            figures.seconds = round(time.monotonic() - began, 1)
            tell(figures)
            if figures.messages >= messages:
                return figures
    raise AssertionError("the rounds have no end")


def rss_mib() -> float:
    """Resident memory of this process, what the allocator keeps for itself given back before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def _rounds(folder: Path, prepared: Path, party_tls: PartyTls, draw: random.Random) -> Iterator[tuple[Target, int]]:
    for number in itertools.count():
        for phase in coordinator_target.PHASES:
            here = folder / f"coordinator-{number}-{phase}"
            yield CoordinatorTarget(here, phase, party_tls, prepared / phase), CALLS_PER_ROUND
        for phase in compute_target.PHASES:
            calls = CALLS_PER_ROUND if phase == "training" else 10
            yield ComputeTarget(folder / f"compute-{number}-{phase}", phase, party_tls), calls
        yield SiteTarget(folder / f"site-{number}", party_tls), CALLS_PER_ROUND


def _count(figures: Figures, shot: Shot, outcome: Outcome) -> None:
    figures.calls += 1
    figures.messages += len(outcome.sent)
    known = shot.method.rpartition("/")[2]
    figures.messages_by_rpc[f"{shot.target} {known or 'no method'}"] += len(outcome.sent)
    figures.outcomes[f"{outcome.status} {outcome.code}".strip()] += 1
    figures.internal += outcome.status in ("INTERNAL", "UNKNOWN")
    figures.hangs += outcome.hung


def _finding(outcome: Outcome, errors: list[str], watchdog: Watchdog) -> str:
    """What a call found, in words; empty for nothing."""
    told, errors[:] = list(errors), []
    told += watchdog.found
    watchdog.found.clear()
    if outcome.hung:
        return "HANG"
    if outcome.status in ("INTERNAL", "UNKNOWN"):
        return f"INTERNAL {outcome.text} {' '.join(told)}"
    if outcome.status.startswith("UNHANDLED"):
        return outcome.text
    return " ".join(told)


class _errors(logging.Handler):  # noqa: N801  # read as a verb
    """Collects tracebacks that the program logs: each is an exception that no part of it expected."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        refused = record.exc_info and isinstance(record.exc_info[1], MpleError)
        if record.exc_info and not (refused and record.name == "grpc._common"):  # gRPC of rubbish that came to a caller
            self._found.append(self.format(record))

    def __enter__(self) -> list[str]:
        logging.getLogger().addHandler(self)
        return self._found

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
