"""One method's row of the comparison: what its run left in the two parties' ledgers, as figures.

"Per inference" is the mean over the run's inferences; what is amortised has the set-up in it, spread over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from comparison.traffic import TrafficRow, framed
from comparison.two_party.contents import Phase
from comparison.two_party.session import Method
from comparison.two_party.stopwatch import PartyOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseFigures:
    """One phase: set-up of the whole run, offline and online per inference."""

    up_bytes: float
    down_bytes: float
    expected_bytes: float | None
    """Both directions, counted from the network's form; None where nothing can be said before."""
    wall_s: float
    """As the client saw it; both parties end a phase together."""
    first_wall_s: float
    """Of the first inference; of set-up, as `wall_s`."""
    client_cpu_s: float
    server_cpu_s: float

    @property
    def total_bytes(self) -> float:
        """Both directions."""
        return self.up_bytes + self.down_bytes

    @property
    def off_count(self) -> float | None:
        """How far the measured bytes are from the expected, as a share of these."""
        if not self.expected_bytes:
            return None
        return self.total_bytes / self.expected_bytes - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRow:
    """A method on a network."""

    method: Method
    inferences: int
    setup: PhaseFigures
    offline: PhaseFigures
    online: PhaseFigures
    traffic: tuple[TrafficRow, ...]
    """Of the whole run, by phase, layer, kind and direction."""
    client_peak_bytes: int
    server_peak_bytes: int
    spool_bytes: int
    """Garbled tables of one inference in a file of the evaluator's."""
    logits_equal: bool
    """Every logit of every inference is the quantised network's."""
    same_class: float
    """Share of the pictures that get the quantised network's class."""
    largest_logit_error: int
    accuracy: float | None = None
    """Of the method on test pictures, 0 to 1."""
    accuracy_pictures: int = 0
    """On how many."""

    @property
    def amortised_bytes(self) -> float:
        """Of one inference, both directions."""
        return self.setup.total_bytes / self.inferences + self.offline.total_bytes + self.online.total_bytes

    @property
    def amortised_s(self) -> float:
        """Of one inference."""
        return self.setup.wall_s / self.inferences + self.offline.wall_s + self.online.wall_s

    @property
    def amortised_cpu_s(self) -> float:
        """Of one inference, both parties."""
        phases = ((self.setup, self.inferences), (self.offline, 1), (self.online, 1))
        return sum((phase.client_cpu_s + phase.server_cpu_s) / count for phase, count in phases)

    @property
    def messages(self) -> int:
        """Of the whole run."""
        return sum(row.messages for row in self.traffic)


def measured_row(
    method: Method,
    traffic: Sequence[TrafficRow],
    client: PartyOutcome,
    server: PartyOutcome,
    expected: Mapping[Phase, float] | None,
    due_NK: Sequence[Sequence[int]],
) -> MeasuredRow:
    """The row of a run.

    Args:
        method: The method.
        traffic: From the client's ledgers.
        client: What its process left.
        server: What its process left.
        expected: Framed bytes of the whole run by phase.
        due_NK: The quantised network's logits.
    """
    count = len(client.logits_NK)
    found, due = np.array(client.logits_NK, np.int64), np.array(due_NK, np.int64)
    figures = {
        phase: _figures(phase, traffic, client, server, expected, 1 if phase is Phase.SETUP else count)
        for phase in Phase
    }
    return MeasuredRow(
        method=method,
        inferences=count,
        setup=figures[Phase.SETUP],
        offline=figures[Phase.OFFLINE],
        online=figures[Phase.ONLINE],
        traffic=tuple(traffic),
        client_peak_bytes=client.peak_memory_bytes,
        server_peak_bytes=server.peak_memory_bytes,
        spool_bytes=max(client.spool_bytes, server.spool_bytes),
        logits_equal=bool((found == due).all()),
        same_class=float((found.argmax(1) == due.argmax(1)).mean()),
        largest_logit_error=int(np.abs(found - due).max()),
    )


def _figures(
    phase: Phase,
    traffic: Sequence[TrafficRow],
    client: PartyOutcome,
    server: PartyOutcome,
    expected: Mapping[Phase, float] | None,
    count: int,
) -> PhaseFigures:
    theirs = [lap for lap in client.laps if lap.phase is phase]
    return PhaseFigures(
        up_bytes=framed(traffic, phase=phase, up=True) / count,
        down_bytes=framed(traffic, phase=phase, up=False) / count,
        expected_bytes=None if expected is None else expected[phase] / count,
        wall_s=sum(lap.wall_s for lap in theirs) / count,
        first_wall_s=theirs[0].wall_s,
        client_cpu_s=sum(lap.cpu_s for lap in theirs) / count,
        server_cpu_s=sum(lap.cpu_s for lap in server.laps if lap.phase is phase) / count,
    )
