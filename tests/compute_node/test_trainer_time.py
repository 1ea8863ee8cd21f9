"""Where the trainer's time goes, on a clock of the test's own."""

from __future__ import annotations

import pytest

from compute_node.training.trainer_time import TrainerTime, Use, idle_shares


def test_uses_add_up_and_those_without_training_are_idle() -> None:
    now = 0.0
    spent = TrainerTime(lambda: now)
    for use, seconds in [(Use.SAMPLES, 1.0), (Use.FIRST_LAYER, 8.0), (Use.SAMPLES, 0.5), (Use.SCORES, 2.0)]:
        with spent.spent(use):
            now += seconds
        now += 100.0
    assert spent.seconds()[Use.SAMPLES] == 1.5
    assert spent.idle_seconds == 3.5
    assert spent.first_layer_seconds == 8.0


def test_a_wait_that_ends_with_a_fault_counts_too() -> None:
    now = 0.0
    spent = TrainerTime(lambda: now)

    def wait() -> None:
        nonlocal now
        with spent.spent(Use.SCORES):
            now += 3.0
            raise TimeoutError

    with pytest.raises(TimeoutError):
        wait()
    assert spent.idle_seconds == 3.0


def test_after_a_restart_it_goes_on_from_what_was_kept() -> None:
    before, after = TrainerTime(lambda: 0.0), TrainerTime(lambda: 0.0)
    after.restore({"samples": 2.0, "first_layer": 1.0})
    assert after.idle_seconds == 2.0
    shares = idle_shares(before.seconds(), after.seconds(), 8.0)
    assert shares == {"samples": 0.25, "scores": 0.0, "checkpoints": 0.0, "ranks": 0.0, "reports": 0.0}
