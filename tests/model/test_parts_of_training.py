"""What trains how much: frozen stages stay bit for bit, and convolutions may have a part of the last layer's rate."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from mple.model.settings import ModelSettings, TrainingSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.plan import WeightsFrom, settings_from
from mple.simulate.settings import SimulationSettings
from tests.support.small_plan import small_plan

MODEL, CLASSES = ModelSettings(width=0.0625), 3
STAGE_ENDS = (5, 12, 22, 32, 42)
"""Number of the last layer before each pool in `features`, counted in configuration D with batch norms."""


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(6, MODEL.filters, 28, 28, generator=generator)
    return features, torch.randint(0, CLASSES, (6,), generator=generator)


def trained(settings: TrainingSettings, steps: int = 2) -> TrunkTrainer:
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), settings, total_steps=10)
    for step in range(steps):
        trainer.step(*batch(step))
    return trainer


def stage_of(name: str) -> int:
    """Counted from 1; 6 is the last layer."""
    part, number, _ = name.split(".", 2)
    return 6 if part == "classifier" else 1 + sum(int(number) > end for end in STAGE_ENDS)


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_stages_keep_weights_and_statistics(frozen: int) -> None:
    before = {name: t.clone() for name, t in build_trunk(MODEL, CLASSES, 1).state_dict().items()}
    after = trained(TrainingSettings(frozen_stages=frozen)).trunk.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if stage_of(name) <= frozen}


def test_frozen_convolutions_work_as_they_do_in_evaluation() -> None:
    """With all five frozen, a step is one of a logistic regression on the features of evaluation mode."""
    trunk, (features, labels) = build_trunk(MODEL, CLASSES, 1).eval(), batch()
    with torch.no_grad():
        means = trunk.features(features).mean(dim=(2, 3))
    logits = nn.functional.linear(means, trunk.classifier[-1].weight, trunk.classifier[-1].bias)
    expected = nn.functional.cross_entropy(logits.detach(), labels)
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), TrainingSettings(frozen_stages=5), 10)
    assert trainer.step(features, labels) == pytest.approx(expected.item(), rel=1e-5)


def test_convolutions_may_have_a_part_of_the_rate() -> None:
    """Plain gradient descent: a quarter of the rate is a quarter of the way, but for the last layer."""
    plain = TrainingSettings(momentum=0.0, weight_decay=0.0)
    start = build_trunk(MODEL, CLASSES, 1).state_dict()
    whole = trained(plain, 1).trunk.state_dict()
    part = trained(dataclasses.replace(plain, features_lr=0.25), 1).trunk.state_dict()
    for name in dict(build_trunk(MODEL, CLASSES, 1).named_parameters()):
        factor = 0.25 if name.startswith("features.") else 1.0
        torch.testing.assert_close(part[name] - start[name], factor * (whole[name] - start[name]), rtol=1e-3, atol=1e-6)


def test_the_rate_that_is_told_is_the_last_layers() -> None:
    whole, part = trained(TrainingSettings(), 0), trained(TrainingSettings(features_lr=0.01), 0)
    assert part.learning_rate == whole.learning_rate


def test_training_in_parts_goes_on_bit_for_bit() -> None:
    settings = TrainingSettings(features_lr=0.5, frozen_stages=2)
    whole, first = trained(settings, 4), trained(settings, 2)
    second = TrunkTrainer(build_trunk(MODEL, CLASSES, 9), settings, total_steps=10)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()}, 2)
    for step in (2, 3):
        second.step(*batch(step))
    ends = whole.trunk.state_dict(), second.trunk.state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_drawn_convolutions_can_not_be_frozen() -> None:
    with pytest.raises(ValueError, match=r'frozen_stages = 2 with model\.weights = "seed"'):
        settings_from(SimulationSettings, {"training": {"frozen_stages": 2}})
    with pytest.raises(ValueError, match="frozen_stages = 5"):
        small_plan(training=TrainingSettings(frozen_stages=5))
    model = ModelSettings(width=0.125, weights=WeightsFrom.FEATURES)
    assert small_plan(model=model, training=TrainingSettings(frozen_stages=5)).model.from_file
