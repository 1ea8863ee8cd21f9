"""What a run leaves on the compute node's disk: metrics line by line, the outcome, the model.

The names are a contract: `metrics.jsonl`, `tensorboard/`, `outcome.json`, `model.safetensors`, `plan.json` in the state
folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from compute_node.training.tensorboard_events import TensorboardEvents
from mple.disk.whole_files import write_whole


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """Training as it goes, about once a second."""

    epoch: int
    step: int
    steps: int
    loss: float
    losses: tuple[float, ...]
    """Of every step since the last line, this one included, in their order."""
    lr: float
    samples_per_second: float
    idle_share: float
    """Part of the time since the last line in which the trainer did not train, 0 to 1; the sum of `idle_shares`."""
    idle_shares: dict[str, float]
    """By cause: waiting for `samples` that were not here or not decoded, for the sites' `scores`, for `checkpoints` to
    be copied, for `reports` to reach the coordinator. The time between an epoch's last step and the next one's first
    is in no line of steps."""
    first_layer_share: float
    """Part in applying augmented layers."""
    read_ahead_share: float
    """Time of the thread that reads and decodes the next samples meanwhile, against the same time."""
    time_unix_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """One epoch with the sites' scores."""

    epoch: int
    loss: float
    test_accuracy: float | None
    test_loss: float | None
    seconds: float
    """Time of the epoch, scoring included, that of steps which a restart did again left out."""
    samples: int = 0
    """Training samples that were used, each exactly once."""
    missing: dict[str, str] = field(default_factory=dict)
    """Sites whose training samples were not all here, and the numbers of those that weren't: "0-12,40"."""
    unscored: tuple[str, ...] = ()
    """Sites with test samples that did not score the epoch."""
    scoring_seconds: float = 0.0
    """Part of `seconds` behind the last step: test samples through the network, and the sites' scores."""
    scores_waited_seconds: float = 0.0
    """Part of it in waiting for the scores."""
    time_unix_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended on the compute node."""

    run_id: str
    plan_sha256: str
    model_sha256: str
    train_seconds: float
    """Wall time of all epochs, scoring included."""
    augconv_seconds: float
    """Time in applying augmented layers."""
    idle_seconds: float
    """Time in which the trainer did not train; the sum of `idle_seconds_by_cause`."""
    samples_trained: int
    idle_seconds_by_cause: dict[str, float] = field(default_factory=dict)
    """As in the lines of steps, but of the whole run: from before the first sample was here to the last report."""
    read_ahead_seconds: float = 0.0
    """Time of the thread that reads and decodes samples while the trainer trains."""


class MetricsFile:
    """Appends lines that readers may follow while they are written, and the same to TensorBoard's events."""

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        """Go on with a file, or make it.

        Args:
            path: Of the lines.
            tensorboard: Folder of the events, which begin with `cut`; None for none.
        """
        self._path, self._tensorboard = path, tensorboard
        self._file = path.open("a", encoding="utf-8")
        self._events: TensorboardEvents | None = None

    @property
    def length_bytes(self) -> int:
        """Length of the file."""
        return os.fstat(self._file.fileno()).st_size

    def to_disk(self) -> None:
        """Have all lines on the disk when this returns. For any thread."""
        os.fsync(self._file.fileno())

    def cut(self, length_bytes: int) -> None:
        """Forget the lines behind a length; they will be written again.

        Raises:
            ValueError: The file is shorter.
        """
        if self.length_bytes < length_bytes:
            raise ValueError(f"{self._file.name} is shorter than when the checkpoint was made")
        self._file.truncate(length_bytes)
        if self._tensorboard is not None:
            self._close_events()
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self._events = TensorboardEvents(self._tensorboard, map(json.loads, lines), time.time())

    def write(self, metrics: StepMetrics | EpochMetrics) -> None:
        """Append one line, whole."""
        kind = "step" if isinstance(metrics, StepMetrics) else "epoch"
        line = {"kind": kind, **dataclasses.asdict(metrics)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._events is not None:
            self._events.write(line)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._close_events()

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()


def write_outcome(outcome: Outcome, path: Path) -> None:
    """Write the outcome; it is on the disk when this returns."""
    write_whole(path, json.dumps(dataclasses.asdict(outcome), indent=2).encode() + b"\n")


def read_outcome(path: Path) -> Outcome:
    """Read an outcome back.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path} is no outcome of a run: {fault}") from None
