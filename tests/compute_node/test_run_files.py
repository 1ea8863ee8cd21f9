"""What a run leaves on the compute node's disk."""

from __future__ import annotations

import dataclasses
import json
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
