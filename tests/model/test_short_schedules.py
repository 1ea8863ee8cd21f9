"""The learning rate of short runs: whatever the plan allows, every step has a rate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mple.model.settings import ModelSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.plan import TrainingSettings

TRUNK = build_trunk(ModelSettings(width=0.0625), 2, 1)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.floats(0.001, 0.999))
@example(4, 0.25)
@example(2, 0.5)
@example(3, 1 / 3)
@example(10, 0.1)
def test_every_length_and_warm_up_has_rates_up_to_the_peak(total: int, share: float) -> None:
    """A warm-up of just one step ends where it begins; a plan of four epochs of one step has it by default."""
    trainer = TrunkTrainer(TRUNK, TrainingSettings(peak_lr=0.1, warmup_share=share), total)
    rates = []
    for _ in range(total):
        rates.append(trainer.learning_rate)
        trainer._optimiser.step()
    assert all(0 < rate <= 0.1 * (1 + 1e-6) for rate in rates)


def test_four_steps_train() -> None:
    trainer = TrunkTrainer(build_trunk(ModelSettings(width=0.0625), 2, 1), TrainingSettings(epochs=4), total_steps=4)
    f_BFHW = torch.randn((4, 8, 28, 28), generator=torch.Generator().manual_seed(1))
    losses = [trainer.step(f_BFHW, torch.tensor([0, 1, 1, 0])) for _ in range(4)]
    assert losses[0] == pytest.approx(0.693, abs=0.1)  # ln 2: first scores are near zero
