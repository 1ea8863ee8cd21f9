"""What a run leaves on the compute node's disk."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path

import pytest

from compute_node.training.metrics_file import MetricsFile
from mple.disk.json_records import read_record, write_record
from mple.records.training import (
    EpochMetrics,
    Outcome,
    StepMetrics,
    epochs_of,
    metrics_line,
    read_metrics,
)

OUTCOME = Outcome(
    run_id="run",
    plan_sha256="ab" * 32,
    model_sha256="cd" * 32,
    train_seconds=1.5,
    augconv_seconds=0.25,
    idle_seconds=0.125,
    samples_trained=90,
    idle_seconds_by_cause={"samples": 0.1, "scores": 0.025},
    read_ahead_seconds=0.5,
)
STEP = StepMetrics(
    epoch=1,
    step=2,
    steps=5,
    loss=0.5,
    losses=(0.75, 0.5),
    lr=0.1,
    samples_per_second=10.0,
    idle_share=0.25,
    idle_shares={"samples": 0.25, "scores": 0.0},
    first_layer_share=0.125,
    read_ahead_share=0.0625,
    time_unix_s=1.5,
)
EPOCH = EpochMetrics(epoch=1, loss=0.5, scores={}, seconds=3.0, time_unix_s=2.5)


def test_metrics_are_lines_that_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write(STEP)
    assert json.loads(path.read_text()) == {
        "kind": "step",
        "epoch": 1,
        "step": 2,
        "steps": 5,
        "loss": 0.5,
        "losses": [0.75, 0.5],
        "lr": 0.1,
        "samples_per_second": 10.0,
        "idle_share": 0.25,
        "idle_shares": {"samples": 0.25, "scores": 0.0},
        "first_layer_share": 0.125,
        "read_ahead_share": 0.0625,
        "time_unix_s": 1.5,
        "crc32": f"{zlib.crc32(path.read_bytes().rpartition(b', ')[0]):08x}",
    }
    metrics.write(EPOCH)
    metrics.close()
    again = MetricsFile(path)
    again.write(dataclasses.replace(EPOCH, epoch=2, scores={"accuracy": 0.5, "loss": 1.0}))
    again.close()
    lines = read_metrics(path)
    assert lines[:2] == (STEP, EPOCH)
    assert [epoch.epoch for epoch in epochs_of(lines)] == [1, 2]


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "{}", '{"kind": "day"}', '{"kind": "step", "epoch": 1}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(metrics_line(STEP) + line + "\n" + metrics_line(EPOCH))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_an_outcome_comes_back(tmp_path: Path) -> None:
    write_record(tmp_path / "outcome.json", OUTCOME)
    assert read_record(Outcome, tmp_path / "outcome.json") == OUTCOME
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"run_id": "run"}', json.dumps({**dataclasses.asdict(OUTCOME), "more": 1})]
)
def test_a_damaged_outcome_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "outcome.json").write_text(text)
    with pytest.raises(ValueError, match=r"outcome\.json"):
        read_record(Outcome, tmp_path / "outcome.json")


def lines_of(path: Path, steps: int) -> list[bytes]:
    metrics = MetricsFile(path)
    for step in range(1, steps + 1):
        metrics.write(dataclasses.replace(STEP, step=step))
    metrics.close()
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("damage", ["flip", "zeros", "cut", "gone", "rubbish"])
def test_damaged_metrics_are_set_aside_and_the_sound_lines_go_on(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = lines_of(path, 5)
    whole = b"".join(lines)
    digit = whole.index(b'"loss": 0.5', len(lines[0])) + 8  # 0.5 becomes 1.5 in the second line
    damaged = {
        "flip": whole[:digit] + b"1" + whole[digit + 1 :],
        "zeros": bytes(len(lines[0]) + 9) + whole[len(lines[0]) + 9 :],
        "cut": whole[: -1 - len(lines[4])],
        "gone": b"",
        "rubbish": b"\xff\xfe" + whole,
    }[damage]
    left = {"flip": (1, 3, 4), "zeros": (3, 4), "cut": (1, 2, 3, 4), "gone": (), "rubbish": (2, 3)}[damage]
    path.write_bytes(damaged)
    again = MetricsFile(path)
    again.cut(len(b"".join(lines[:4])), epoch=0, step=4)
    again.write(dataclasses.replace(STEP, step=5))
    again.close()
    assert [line.step for line in read_metrics(path) if isinstance(line, StepMetrics)] == [*left, 5]
    assert (tmp_path / "metrics.jsonl.damaged").exists() == (damage not in ("cut", "gone"))


def test_metrics_that_were_set_aside_can_be_cut_once_more_at_the_older_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = lines_of(path, 4)
    path.write_bytes(lines[0] + b"x" + b"".join(lines[1:]))
    for _ in range(2):  # killed behind the first restart, before another checkpoint
        again = MetricsFile(path)
        again.cut(sum(map(len, lines[:3])), epoch=0, step=3)
        for step in (4, 5, 6):
            again.write(dataclasses.replace(STEP, step=step))
        again.close()
    assert [line.step for line in read_metrics(path) if isinstance(line, StepMetrics)] == [1, 3, 4, 5, 6]


def test_what_a_killed_process_left_behind_its_checkpoint_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = lines_of(path, 3)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    again = MetricsFile(path)
    again.cut(sum(map(len, lines[:2])), epoch=0, step=2)
    again.close()
    assert path.read_bytes() == b"".join(lines[:2])
    assert not (tmp_path / "metrics.jsonl.damaged").exists()
