"""How far a run is, as a pure state: what the nodes have written goes in, what a screen shows comes out.

No file, clock or process: `mple.simulate.run_monitor` reads, `mple.simulate.screen` shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mple.model.metrics import scores_text

_TOLD = ("party_joined", "plan", "layer_released")
"""Events of the coordinator and the compute node that are news; warnings and errors of any node are, too."""


@dataclass(slots=True)
class SiteProgress:
    """One site."""

    name: str
    images: int = 0
    """Training and test images that the plan has of it."""
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
    epoch: int = 0
    """Counted from 1; 0 before the first step."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """After the last whole epoch, by metric."""
    samples_per_second: float = 0.0
    idle_share: float = 0.0
    """Part of the time in which the trainer waited, 0 to 1."""
    idle_for: str = ""
    """What it waited for most, if it waited at all."""
    first_layer_share: float = 0.0
    """Part of the time in augmented layers, 0 to 1."""
    epochs_scored: int = 0
    """Whole epochs, scored by the sites."""

    @property
    def share_done(self) -> float:
        """Part of all steps that are done, 0 to 1."""
        if not self.epochs or not self.steps:
            return 0.0
        return min(1.0, (max(0, self.epoch - 1) + self.step / self.steps) / self.epochs)


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
    """Labels of the parties that have told the coordinator their sums: they know that the run has finished."""
    failed_party: str = ""
    """Name of the node that the coordinator says has failed."""
    news: list[str] = field(default_factory=list)
    """Sentences that were not shown yet; whoever shows them empties the list."""

    def read_log(self, node: str, line: Mapping[str, object]) -> None:
        """Take in a line of a node's log."""
        event, text = line.get("event"), str(line.get("text", ""))
        if event == "party_joined":
            self.joined.add(str(line.get("party", "")))
        elif event == "layer_released":
            self.released.add(str(line.get("site", "")))
        elif event == "totals_reported":
            self.goodbyes.add(str(line.get("party", "")))
        if event == "retry" and node in self.sites:
            self.sites[node].retries += 1
        elif event == "phase":
            self.phase = str(line.get("phase", text))
            self.news.append(f"{node}: {text}")
        elif event == "party_failed":
            self.failed_party = str(line.get("party", "")).partition("/")[2]
            self.news.append(f"{node}: {text}")
        elif line.get("level") != "info" or (event in _TOLD and node not in self.sites):
            self.news.append(f"{node}: {text}")

    def read_metrics(self, line: Mapping[str, object]) -> None:
        """Take in a line of the compute node's metrics."""
        training = self.training
        if line.get("kind") == "step":
            training.epoch, training.step = _whole(line["epoch"]), _whole(line["step"])
            training.steps, training.loss = _whole(line["steps"]), _real(line["loss"])
            training.samples_per_second = _real(line["samples_per_second"])
            training.idle_share = _real(line["idle_share"])
            causes = line["idle_shares"]
            if isinstance(causes, Mapping):
                training.idle_for = max(causes, key=lambda cause: _real(causes[cause])) if training.idle_share else ""
            training.first_layer_share = _real(line["first_layer_share"])
        elif line.get("kind") == "epoch":
            scores, epoch = line["scores"], _whole(line["epoch"])
            if isinstance(scores, Mapping):
                training.scores = {str(name): _real(value) for name, value in scores.items()}
            if epoch <= training.epochs_scored:
                return  # once more, after a restart
            training.epochs_scored = epoch
            self.news.append(
                f"epoch {epoch} of {training.epochs}: loss {_real(line['loss']):.4f}, {scores_text(training.scores)}, "
                f"{_real(line['seconds']):.1f} s"
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


def _whole(value: object) -> int:
    return int(str(value))


def _real(value: object) -> float:
    return float(str(value))
