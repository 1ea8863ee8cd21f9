"""Writes a run's metrics line by line: `metrics.jsonl`, and the same as TensorBoard's events beside it."""

import os
import time
from pathlib import Path

from compute_node.training.tensorboard_events import TensorboardEvents
from mple.disk.private import private_file
from mple.disk.whole_files import write_whole
from mple.node.logs import warn
from mple.records.training import EpochMetrics, StepMetrics, TrainingMetrics, metrics_line, sound_metrics


class MetricsFile:
    """Appends lines that readers may follow while they are written, and the same to TensorBoard's events."""

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        """Go on with a file, or make it.

        Args:
            path: Of the lines.
            tensorboard: Folder of the events, which begin with `cut`; None for none.
        """
        self._path, self._tensorboard = path, tensorboard
        self._file = private_file(path).open("a", encoding="utf-8")
        self._events: TensorboardEvents | None = None

    @property
    def length_bytes(self) -> int:
        """Length of the file."""
        return os.fstat(self._file.fileno()).st_size

    def to_disk(self) -> None:
        """Have all lines on the disk when this returns. For any thread."""
        os.fsync(self._file.fileno())

    def cut(self, length_bytes: int, *, epoch: int, step: int) -> None:
        """Forget the lines behind a checkpoint; they will be written again.

        The file tells of the training and is no part of it, so damage does not end the run: a file with damaged lines
        is set aside, and one with the sound lines goes on in its place.

        Args:
            length_bytes: Length of the file when the checkpoint was made.
            epoch: Of the checkpoint, counted from 0.
            step: Steps of it that were done.
        """
        content = self._path.read_bytes()[:length_bytes]
        lines, damaged = sound_metrics(content)
        kept = tuple(line for line in lines if _before(line, epoch, step))
        text = "".join(map(metrics_line, kept)).encode()
        if text == content:
            self._file.truncate(len(text))
        else:
            self._file.close()
            if damaged:
                self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
            write_whole(self._path, text)
            self._file = private_file(self._path).open("a", encoding="utf-8")
        if damaged or len(text) < length_bytes:
            what = f"{damaged} damaged lines and {length_bytes - len(content)} bytes that are gone"
            warn("metrics_damaged", f"{self._path} had {what}: it goes on without them, a copy lies beside it")
        if self._tensorboard is not None:
            self._close_events()
            self._events = TensorboardEvents(self._tensorboard, kept, time.time())

    def write(self, metrics: TrainingMetrics) -> None:
        """Append one line, whole."""
        self._file.write(metrics_line(metrics))
        self._file.flush()
        if self._events is not None:
            self._events.write(metrics)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._close_events()

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()


def _before(line: TrainingMetrics, epoch: int, step: int) -> bool:
    if isinstance(line, StepMetrics):
        return (line.epoch - 1, line.step) <= (epoch, step)
    return isinstance(line, EpochMetrics) and line.epoch <= epoch
