"""How far a run is, as a pure state: what the nodes have written goes in, what a screen shows comes out.

No file, clock or process: `mple.simulate.run_monitor` reads, `mple.simulate.screen` shows.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mple.metrics import epoch_text, scores_text
from mple.records.log_events import LogEvent, LogLine
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.records.training import NetworkMetrics, StepMetrics, TrainingMetrics

MANY_SITES = 16
"""Of more than these, what each of them does is told in sums."""
_TOLD_IN_SUMS = (LogEvent.PARTY_JOINED, LogEvent.LAYER_RELEASED)
_MOST_WARNINGS = 3
"""Of many sites, and of one kind, as news."""
_TOLD = (LogEvent.PARTY_JOINED, LogEvent.PLAN, LogEvent.LAYER_RELEASED)
"""Events of the coordinator and the compute node that are news; warnings and errors of any node are, too."""


@dataclass(slots=True)
class SiteProgress:
    """One site."""

    name: str
    images: int = 0
    """Images of all splits that the plan has of it."""
    samples_sent: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    retries: int = 0
    rate: float = 0.0
    """Samples a second between the last two readings."""


@dataclass(slots=True)
class TrainingProgress:
    """The trainer."""

    epochs: int = 0
    last: StepMetrics | None = None
    """The newest that is known of its steps."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of validation after the last whole epoch, by metric."""
    epochs_scored: int = 0
    """Whole epochs."""

    @property
    def share_done(self) -> float:
        """Part of all steps that are done, 0 to 1."""
        if not self.epochs or self.last is None:
            return 0.0
        return min(1.0, (self.last.epoch - 1 + self.last.step / self.last.steps) / self.epochs)


@dataclass(slots=True)
class Progress:
    """A run."""

    phase: str = "starting"
    plan: str = ""
    """First digits of the plan's hash."""
    sites: dict[str, SiteProgress] = field(default_factory=dict)
    training: TrainingProgress = field(default_factory=TrainingProgress)
    training_began_s: float | None = None
    joined: set[str] = field(default_factory=set)
    """Labels of the parties that the coordinator knows."""
    released: set[str] = field(default_factory=set)
    """Sites whose layers are released."""
    goodbyes: set[str] = field(default_factory=set)
    """Labels of the parties that have reported their totals to the coordinator: they know that the run has finished."""
    failed_party: str = ""
    """Name of the node that the coordinator says has failed."""
    warned: Counter[str] = field(default_factory=Counter)
    """Warnings and errors of many sites, by their event."""
    news: list[str] = field(default_factory=list)
    """Sentences that were not shown yet; whoever shows them empties the list."""

    def read_log(self, node: str, line: LogLine) -> None:
        """Take in a line of a node's log."""
        match line.event:
            case LogEvent.PARTY_JOINED:
                self.joined.add(line.party)
            case LogEvent.LAYER_RELEASED:
                self.released.add(line.site)
            case LogEvent.TOTALS_REPORTED:
                self.goodbyes.add(line.party)
            case LogEvent.PHASE:
                self.phase = line.phase or line.text
            case LogEvent.PARTY_FAILED:
                self.failed_party = line.party.partition("/")[2]
        if line.event == LogEvent.RETRY and node in self.sites:
            self.sites[node].retries += 1
        elif len(self.sites) > MANY_SITES and line.event in _TOLD_IN_SUMS:
            self._tell_sum(node, line.event)
        elif len(self.sites) > MANY_SITES and node in self.sites and line.level != "info":
            self._tell_some(node, line)
        elif (
            line.event == LogEvent.PHASE
            or line.level != "info"
            or (line.event in _TOLD and node in (COORDINATOR, COMPUTE))
        ):
            self.news.append(f"{node}: {line.text}")

    def _tell_sum(self, node: str, event: str) -> None:
        """Some ten times a run, and when all are there."""
        done, of, what = len(self.released), len(self.sites), "layers are released"
        if event == LogEvent.PARTY_JOINED:
            done, of, what = len(self.joined), len(self.sites) + 1, "parties have joined"
        if done == of or done % -(-of // 10) == 0:
            self.news.append(f"{node}: {done:,} of {of:,} {what}")

    def _tell_some(self, node: str, line: LogLine) -> None:
        self.warned[line.event] += 1
        if self.warned[line.event] <= _MOST_WARNINGS:
            self.news.append(f"{node}: {line.text}")
        elif self.warned[line.event] == _MOST_WARNINGS + 1:
            self.news.append(f"{node} and others have more of this kind ({line.event}) in their logs")

    def read_metrics(self, metrics: TrainingMetrics) -> None:
        """Take in a line of the compute node's metrics."""
        training = self.training
        if isinstance(metrics, NetworkMetrics):
            self.news.append(f"kept is epoch {metrics.epoch}: {scores_text(metrics.scores)}")
            return
        if isinstance(metrics, StepMetrics):
            training.last = metrics
            return
        training.scores = dict(metrics.scores)
        if metrics.epoch <= training.epochs_scored:
            return  # once more, after a restart
        training.epochs_scored = metrics.epoch
        self.news.append(
            f"epoch {metrics.epoch} of {training.epochs}: {epoch_text(metrics.loss, training.scores)}, "
            f"{metrics.seconds:.1f} s"
        )

    def read_ledger(self, site: str, *, samples: int, up: int, down: int, elapsed_s: float) -> None:
        """Take in a site's sums; `elapsed_s` since the reading before."""
        entry = self.sites[site]
        entry.rate = max(0, samples - entry.samples_sent) / elapsed_s if elapsed_s > 0 else 0.0
        entry.samples_sent, entry.bytes_up, entry.bytes_down = samples, up, down

    def time_left_s(self, now_s: float) -> float | None:
        """Seconds of training still to come at the pace so far, or None before there is a pace."""
        share = self.training.share_done
        if self.training_began_s is None or share <= 0:
            return None
        return (now_s - self.training_began_s) * (1 - share) / share
