"""How a training went: the lines of `metrics.jsonl`, and `outcome.json` once it is over."""

import contextlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mple.disk.bounded import MEBIBYTE, lines_bounded
from mple.disk.json_records import record_to_json, structured
from mple.printable import printable
from mple.ranges import Between, Ranged
from mple.records.state_files import METRICS

_MOST_BYTES, _MOST_LINE_BYTES = 512 * MEBIBYTE, 16 * MEBIBYTE
_Count = Annotated[int, Between(0, 1_000_000_000)]
_Seconds = Annotated[float, Between(0, 1e12)]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics(Ranged):
    """Training as it goes, about once a second."""

    epoch: _Count
    step: _Count
    steps: Annotated[int, Between(1, 1_000_000_000)]
    loss: float
    losses: tuple[float, ...]
    """Of every step since the last line, this one included, in their order."""
    lr: float
    samples_per_second: float
    idle_share: float
    """Part of the time since the last line in which the trainer did not train, 0 to 1; the sum of `idle_shares`."""
    idle_shares: dict[str, float]
    """By cause: waiting for `samples` that were not here or not decoded, for the sites' `scores`, for `checkpoints` to
    be copied, for other `ranks`, for `reports` to reach the coordinator. The time between an epoch's last step and the
    next one's first is in no line of steps."""
    first_layer_share: float
    """Part in applying augmented layers."""
    read_ahead_share: float
    """Time of the thread that reads and decodes the next samples meanwhile, against the same time."""
    time_unix_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics(Ranged):
    """One epoch with the sites' scores of validation."""

    epoch: _Count
    loss: float
    scores: dict[str, float]
    """Over the validation samples of all sites that scored, by metric; empty when none did."""
    seconds: float
    """Time of the epoch, scoring included, that of steps which a restart did again left out."""
    samples: int = 0
    """Training samples that were used, each exactly once."""
    missing: dict[str, str] = field(default_factory=dict)
    """Sites whose training samples were not all here, and the numbers of those that weren't: "0-12,40"."""
    unscored: tuple[str, ...] = ()
    """Sites with validation samples that did not score the epoch."""
    scoring_seconds: float = 0.0
    """Part of `seconds` behind the last step: validation samples through the network, and the sites' scores."""
    scores_waited_seconds: float = 0.0
    """Part of it in waiting for the scores."""
    time_unix_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkMetrics(Ranged):
    """The network that is kept, at the end."""

    epoch: _Count
    """After which it was so, counted from 1."""
    scores: dict[str, float]
    """Over the test samples of all sites that scored, by metric; empty when none did."""
    time_unix_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Ranged):
    """How a run ended on the compute node."""

    run_id: str
    plan_sha256: str
    model_sha256: str
    train_seconds: Annotated[float, Between(0, 1e12, above=True)]
    """Wall time of all epochs, and of scoring the network that is kept."""
    augconv_seconds: _Seconds
    """Time in applying augmented layers."""
    idle_seconds: _Seconds
    """Time in which the trainer did not train; the sum of `idle_seconds_by_cause`."""
    samples_trained: Annotated[int, Between(0, 1e18)]
    idle_seconds_by_cause: dict[str, float] = field(default_factory=dict)
    """As in the lines of steps, but of the whole run: from before the first sample was here to the last report."""
    read_ahead_seconds: float = 0.0
    """Time of the thread that reads and decodes samples while the trainer trains."""
    delivered: tuple[str, ...] | None = None
    """Sites that have the network; None while that is open, and where the plan delivers to nobody."""


TrainingMetrics = StepMetrics | EpochMetrics | NetworkMetrics
_KINDS: dict[str, type[TrainingMetrics]] = {"step": StepMetrics, "epoch": EpochMetrics, "network": NetworkMetrics}


def metrics_line(metrics: TrainingMetrics) -> str:
    """A line of `metrics.jsonl`, with its end: the `kind` of a record, `step`, `epoch` or `network`, its fields, and
    the CRC-32 of all that lies before."""
    kind = next(name for name, of in _KINDS.items() if isinstance(metrics, of))
    body = f'{{"kind": "{kind}", {record_to_json(metrics)[1:-1]}'
    return f'{body}, "crc32": "{_crc(body)}"}}\n'


def metrics_from_line(line: str | bytes, where: str = METRICS) -> TrainingMetrics:
    """Read a line back, with or without its end; `where` says what it is, for errors.

    Raises ValueError: it is no line of metrics, or not the one that was written.
    """
    try:
        text = (line if isinstance(line, str) else line.decode()).rstrip("\n")
        body, _, rest = text.rpartition(", ")
        fields = json.loads(text)
        if rest != f'"crc32": "{_crc(body)}"}}':
            raise ValueError
        del fields["crc32"]
        kind = _KINDS[fields.pop("kind")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{where} is no line of metrics: {printable(repr(line[:200]), 200)}") from None
    return structured(kind, fields, where)


def read_metrics(path: Path) -> tuple[TrainingMetrics, ...]:
    """All lines of a `metrics.jsonl`, in their order.

    Raises OSError: the file can't be read; UnsoundFileError: it is too large; ValueError: a line is damaged; the text
    says which.
    """
    lines = lines_bounded(path, _MOST_BYTES, _MOST_LINE_BYTES)
    return tuple(metrics_from_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1))


def sound_metrics(content: bytes) -> tuple[tuple[TrainingMetrics, ...], int]:
    """The lines of a `metrics.jsonl` that are as they were written, and how many are not."""
    sound, lines = [], content.splitlines()
    for line in lines:
        with contextlib.suppress(ValueError):
            sound.append(metrics_from_line(line))
    return tuple(sound), len(lines) - len(sound)


def epochs_of(metrics: Iterable[TrainingMetrics]) -> tuple[EpochMetrics, ...]:
    """The epochs among them."""
    return tuple(one for one in metrics if isinstance(one, EpochMetrics))


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
