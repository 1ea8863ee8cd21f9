"""Records of a training with figures that a test names, and others that it does not mind."""

from __future__ import annotations

from typing import Any

from mple.records.training import EpochMetrics, Outcome, StepMetrics

_STEP: dict[str, Any] = {
    "epoch": 1,
    "step": 5,
    "steps": 10,
    "loss": 1.25,
    "losses": (1.5, 1.25),
    "lr": 0.1,
    "samples_per_second": 80.0,
    "idle_share": 0.5,
    "idle_shares": {"samples": 0.125, "scores": 0.0, "checkpoints": 0.375},
    "first_layer_share": 0.25,
    "read_ahead_share": 0.0625,
    "time_unix_s": 1.5,
}


def step_metrics(**changed: Any) -> StepMetrics:
    return StepMetrics(**(_STEP | changed))


def epoch_metrics(**changed: Any) -> EpochMetrics:
    return EpochMetrics(**({"epoch": 1, "loss": 0.5, "scores": {}, "seconds": 3.0} | changed))


def outcome(**changed: Any) -> Outcome:
    known: dict[str, Any] = {
        "run_id": "run",
        "plan_sha256": "ab" * 32,
        "model_sha256": "cd" * 32,
        "train_seconds": 40.0,
        "augconv_seconds": 2.0,
        "idle_seconds": 1.0,
        "samples_trained": 27,
        "idle_seconds_by_cause": {"samples": 0.75, "scores": 0.25},
        "read_ahead_seconds": 0.5,
    }
    return Outcome(**(known | changed))
