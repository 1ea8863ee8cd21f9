"""What a run leaves on the compute node's disk: metrics line by line, the outcome, the model.

The file names are a contract: `metrics.jsonl`, `outcome.json`, `model.safetensors`, `plan.json` in the state folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from mple.whole_files import write_whole


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
    """Part of the time since the last line in which the trainer waited for samples, 0 to 1."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended on the compute node."""

    run_id: str
    plan_sha256: str
    model_sha256: str
    train_seconds: float
    """Wall time of all epochs, scoring included."""
    augconv_seconds: float
    """Time in decoding and applying augmented layers."""
    idle_seconds: float
    """Time in waiting for samples and scores."""
    samples_trained: int


class MetricsFile:
    """Appends lines that readers may follow while they are written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    @property
    def length_bytes(self) -> int:
        """Length of the file, all of it on the disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def cut(self, length_bytes: int) -> None:
        """Forget the lines behind a length; they will be written again.

        Raises:
            ValueError: The file is shorter.
        """
        if os.fstat(self._file.fileno()).st_size < length_bytes:
            raise ValueError(f"{self._file.name} is shorter than when the checkpoint was made")
        self._file.truncate(length_bytes)

    def write(self, metrics: StepMetrics | EpochMetrics) -> None:
        """Append one line, whole."""
        kind = "step" if isinstance(metrics, StepMetrics) else "epoch"
        self._file.write(json.dumps({"kind": kind, **dataclasses.asdict(metrics)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
