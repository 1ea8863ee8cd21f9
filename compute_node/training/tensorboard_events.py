"""The metrics of a run as TensorBoard reads them: what `metrics.jsonl` says, as scalars over steps and epochs.

The events file is made from the lines of `metrics.jsonl` and holds nothing else, so after a restart it is made anew
from the lines that the checkpoint has kept: no step is in it twice, and none that was taken back.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from mple.disk.private import make_private, private_file
from mple.records.training import NetworkMetrics, StepMetrics, TrainingMetrics

_FILE_VERSION = "brain.Event:2"
_PER_STEP = {
    "lr": "train/learning_rate",
    "samples_per_second": "speed/samples_per_second",
    "idle_share": "speed/idle_share",
    "first_layer_share": "speed/first_layer_share",
}
_PER_EPOCH = {"loss": "epoch/train_loss", "seconds": "epoch/seconds"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of one curve."""

    tag: str
    step: int
    value: float


def scalars(metrics: TrainingMetrics) -> Iterator[Scalar]:
    """The points that a line of `metrics.jsonl` holds; steps are counted over all epochs, from 1."""
    if isinstance(metrics, StepMetrics):
        names, at = _PER_STEP, (metrics.epoch - 1) * metrics.steps + metrics.step
        for step, loss in enumerate(metrics.losses, start=at - len(metrics.losses) + 1):
            yield Scalar("train/loss", step, loss)
    elif isinstance(metrics, NetworkMetrics):
        names, at = {}, metrics.epoch
        yield from (Scalar(f"network/test_{name}", at, value) for name, value in metrics.scores.items())
    else:
        names, at = _PER_EPOCH, metrics.epoch
        yield from (Scalar(f"epoch/val_{name}", at, value) for name, value in metrics.scores.items())
    yield from (Scalar(tag, at, getattr(metrics, name)) for name, tag in names.items())


class TensorboardEvents:
    """Writes the events file of one run."""

    def __init__(self, folder: Path, lines: Iterable[TrainingMetrics], time_unix_s: float) -> None:
        """Make the folder anew, with the points of the lines that there are.

        Args:
            folder: What is in it is removed.
            lines: Of `metrics.jsonl`, so far.
            time_unix_s: Now. TensorBoard takes files in the order of their names, which it is part of.

        Raises OSError: the disk refuses.
        """
        shutil.rmtree(folder, ignore_errors=True)
        make_private(folder)
        file = folder / f"events.out.tfevents.{int(time_unix_s):010d}.mple.{os.getpid()}"
        self._records = _Records(str(private_file(file)))
        self._records.write(Event(wall_time=time_unix_s, file_version=_FILE_VERSION).SerializeToString())
        for line in lines:
            self._add(line)
        self._records.flush()

    def write(self, line: TrainingMetrics) -> None:
        """Add the points of one more line; whoever follows the file sees them when this returns."""
        self._add(line)
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, line: TrainingMetrics) -> None:
        for point in scalars(line):
            value = Summary.Value(tag=point.tag, simple_value=point.value)
            event = Event(wall_time=line.time_unix_s, step=point.step, summary=Summary(value=[value]))
            self._records.write(event.SerializeToString())


class _Records(RecordWriter):  # type: ignore[misc]
    def flush(self) -> None:
        """To readers, not to the disk, as the library does it: the trainer would wait for that every second."""
        self._writer.flush()
