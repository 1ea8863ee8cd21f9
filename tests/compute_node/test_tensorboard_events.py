"""TensorBoard's own reader finds in the events what `metrics.jsonl` says: each step once, also after a restart."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from compute_node.training.metrics_file import MetricsFile
from mple.records.training import EpochMetrics, NetworkMetrics, StepMetrics

STEP = StepMetrics(
    epoch=1,
    step=2,
    steps=3,
    loss=0.5,
    losses=(0.75, 0.5),
    lr=0.1,
    samples_per_second=10.0,
    idle_share=0.25,
    idle_shares={"samples": 0.25},
    first_layer_share=0.125,
    read_ahead_share=0.0625,
    time_unix_s=1000.5,
)
LAST = dataclasses.replace(STEP, step=3, loss=0.25, losses=(0.25,), time_unix_s=1001.5)
EPOCH = EpochMetrics(epoch=1, loss=0.5, scores={"accuracy": 0.75, "loss": 1.5}, seconds=3.0, time_unix_s=1002.5)
NEXT = dataclasses.replace(STEP, epoch=2, step=1, loss=0.125, losses=(0.125,))
KEPT = NetworkMetrics(epoch=1, scores={"auroc": 0.625}, time_unix_s=1003.5)

Point = tuple[int, float]


def points_in(folder: Path) -> dict[str, list[Point]]:
    """Step and value of every point, by its tag, as TensorBoard's loader reads the files in their order."""
    found: dict[str, list[Point]] = {}
    for path in sorted(folder.iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


def records_in(path: Path) -> Iterator[bytes]:
    """The contents of a TFRecord file, by its description and without anybody's reader; every CRC is checked."""
    rest = path.read_bytes()
    while rest:
        (length,), length_crc = struct.unpack("<Q", rest[:8]), rest[8:12]
        content, content_crc = rest[12 : 12 + length], rest[12 + length : 16 + length]
        assert (masked(rest[:8]), masked(content)) == (length_crc, content_crc)
        yield content
        rest = rest[16 + length :]


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[MetricsFile]:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard")
    metrics.cut(0, epoch=0, step=0)
    yield metrics
    metrics.close()


def test_every_line_is_there_while_the_run_goes_on(metrics: MetricsFile, tmp_path: Path) -> None:
    for line in (STEP, LAST, EPOCH, NEXT, KEPT):
        metrics.write(line)
    found = points_in(tmp_path / "tensorboard")
    assert found == {
        "train/loss": [(1, 0.75), (2, 0.5), (3, 0.25), (4, 0.125)],
        "train/learning_rate": [(step, pytest.approx(0.1)) for step in (2, 3, 4)],
        "speed/samples_per_second": [(step, 10.0) for step in (2, 3, 4)],
        "speed/idle_share": [(step, 0.25) for step in (2, 3, 4)],
        "speed/first_layer_share": [(step, 0.125) for step in (2, 3, 4)],
        "epoch/train_loss": [(1, 0.5)],
        "epoch/val_accuracy": [(1, 0.75)],
        "epoch/val_loss": [(1, 1.5)],
        "epoch/seconds": [(1, 3.0)],
        "network/test_auroc": [(1, 0.625)],
    }


def test_an_epoch_that_nobody_scored_has_no_accuracy(metrics: MetricsFile, tmp_path: Path) -> None:
    metrics.write(dataclasses.replace(EPOCH, scores={}))
    assert set(points_in(tmp_path / "tensorboard")) == {"epoch/train_loss", "epoch/seconds"}


def test_after_a_restart_no_step_is_told_twice(metrics: MetricsFile, tmp_path: Path) -> None:
    """The node was killed behind its checkpoint, within a line: what it did after it is done again, otherwise."""
    metrics.write(STEP)
    kept_bytes = metrics.length_bytes
    metrics.write(LAST)
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as torn:
        torn.write('{"kind": "st')
    again = MetricsFile(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard")
    again.cut(kept_bytes, epoch=0, step=STEP.step)
    again.write(dataclasses.replace(LAST, loss=0.375, losses=(0.375,)))
    again.write(EPOCH)
    again.write(KEPT)
    again.cut(again.length_bytes, epoch=1, step=0)
    again.close()
    found = points_in(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, 0.75), (2, 0.5), (3, 0.375)]
    assert found["epoch/train_loss"] == [(1, 0.5)]
    assert "network/test_auroc" not in found, "it is scored again at the end"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for line in lines if line["kind"] == "step" for loss in line["losses"]]
    assert [value for _, value in found["train/loss"]] == losses


def test_the_records_are_whole_by_their_own_checksums(metrics: MetricsFile, tmp_path: Path) -> None:
    metrics.write(STEP)
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert len(list(records_in(path))) == 1 + len(STEP.losses) + 4
