"""Writes a run's metrics line by line: `metrics.jsonl`, and the same as TensorBoard's events beside it."""

import os
import time
from pathlib import Path

from compute_node.training.tensorboard_events import TensorboardEvents
from mple.records.training import TrainingMetrics, metrics_line, read_metrics


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
        """Forget the lines behind a length; they will be written again. Raises ValueError: the file is shorter."""
        if self.length_bytes < length_bytes:
            raise ValueError(f"{self._file.name} is shorter than when the checkpoint was made")
        self._file.truncate(length_bytes)
        if self._tensorboard is not None:
            self._close_events()
            self._events = TensorboardEvents(self._tensorboard, read_metrics(self._path), time.time())

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
