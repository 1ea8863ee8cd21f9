"""The metrics of a run as TensorBoard reads them: what `metrics.jsonl` says, as scalars over steps and epochs.

The events file is made from the lines of `metrics.jsonl` and holds nothing else, so after a restart it is made anew
from the lines that the checkpoint has kept: no step is in it twice, and none that was taken back. A record is framed
as in TensorFlow's TFRecord files: length, its CRC, content, its CRC, all little-endian.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

_FILE_VERSION = "brain.Event:2"
_PER_STEP = {
    "lr": "train/learning_rate",
    "samples_per_second": "speed/samples_per_second",
    "idle_share": "speed/idle_share",
    "first_layer_share": "speed/first_layer_share",
}
_PER_EPOCH = {
    "loss": "epoch/train_loss",
    "seconds": "epoch/seconds",
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of one curve."""

    tag: str
    step: int
    value: float
    time_unix_s: float


def scalars(line: Mapping[str, Any]) -> Iterator[Scalar]:
    """The points that a line of `metrics.jsonl` holds; steps are counted over all epochs, from 1."""
    now_s = float(line["time_unix_s"])
    if line["kind"] == "step":
        step = (line["epoch"] - 1) * line["steps"] + line["step"]
        for number, loss in enumerate(line["losses"], start=step - len(line["losses"]) + 1):
            yield Scalar("train/loss", number, loss, now_s)
        names, at = _PER_STEP, step
    else:
        names, at = _PER_EPOCH, line["epoch"]
        yield from (Scalar(f"epoch/test_{name}", at, value, now_s) for name, value in line["scores"].items())
    yield from (Scalar(tag, at, line[name], now_s) for name, tag in names.items())


class TensorboardEvents:
    """Writes the events file of one run."""

    def __init__(self, folder: Path, lines: Iterable[Mapping[str, Any]], time_unix_s: float) -> None:
        """Make the folder anew, with the points of the lines that there are.

        Args:
            folder: What is in it is removed.
            lines: Of `metrics.jsonl`, so far.
            time_unix_s: Now. TensorBoard takes files in the order of their names, which it is part of.

        Raises:
            OSError: The disk refuses.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = folder / f"events.out.tfevents.{int(time_unix_s):010d}.mple.{os.getpid()}"
        self._file = path.open("wb")
        self._append([Event(wall_time=time_unix_s, file_version=_FILE_VERSION)])
        for line in lines:
            self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add the points of one more line; whoever follows the file sees them when this returns."""
        self._append(
            Event(
                wall_time=point.time_unix_s,
                step=point.step,
                summary=Summary(value=[Summary.Value(tag=point.tag, simple_value=point.value)]),
            )
            for point in scalars(line)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, events: Iterable[Event]) -> None:
        self._file.write(b"".join(_record(event.SerializeToString()) for event in events))
        self._file.flush()


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked_crc32c(length) + content + _masked_crc32c(content)


def _masked_crc32c(data: bytes) -> bytes:
    crc = int(google_crc32c.value(data))
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
