"""A trainer that goes on from another's state takes the same steps, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from mple.model.settings import ModelSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk, state_sha256
from mple.plan import Augment, OptimiserName, Precision, TrainingSettings

STEPS, BATCH = 7, 6
MODEL, CLASSES = ModelSettings(width=0.0625, dropout=0.3), 4


def trainer(settings: TrainingSettings, seed: int = 1) -> TrunkTrainer:
    mirrored = np.arange(MODEL.filters)[::-1].copy()
    return TrunkTrainer(build_trunk(MODEL, CLASSES, seed), settings, STEPS, mirrored_channels=mirrored)


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    f_BFHW = torch.randn(BATCH, MODEL.filters, 28, 28, generator=generator)
    return f_BFHW.to(memory_format=torch.channels_last), torch.randint(0, 4, (BATCH,), generator=generator)


@pytest.mark.parametrize("cut", [0, 1, 3, STEPS])
@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings(epochs=1, precision=Precision.BF16, augment=(Augment.SHIFT,)),
        TrainingSettings(epochs=1, momentum=0.0),
        TrainingSettings(epochs=1, warmup_share=1 / STEPS),
        TrainingSettings(epochs=1, optimiser=OptimiserName.ADAMW, augment=tuple(Augment)),
    ],
    ids=["bf16", "no momentum", "short warm-up", "adamw, all augmentations"],
)
def test_the_steps_to_come_are_equal(settings: TrainingSettings, cut: int) -> None:
    whole = trainer(settings)
    losses, rates = [], []
    for number in range(STEPS):
        rates.append(whole.learning_rate)
        losses.append(whole.step(*batch(number)))
    first = trainer(settings)
    for number in range(cut):
        first.step(*batch(number))
    kept = load(save({name: tensor.contiguous() for name, tensor in first.state().items()}))
    second = trainer(settings, seed=99)
    second.restore(kept, cut)
    for number in range(cut, STEPS):
        assert second.learning_rate == rates[number]
        assert second.step(*batch(number)) == losses[number]
    assert state_sha256(second.trunk) == state_sha256(whole.trunk)


def test_another_networks_state_is_refused() -> None:
    other = TrunkTrainer(build_trunk(ModelSettings(width=0.0625), 5, 1), TrainingSettings(), STEPS)
    with pytest.raises(ValueError, match="not this network's weights"):
        trainer(TrainingSettings()).restore(other.state(), 0)
