"""Steps of the optimisers, against their papers' formulas written out weight by weight."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from mple.model.optimiser import Optimiser
from mple.plan import OptimiserName, TrainingSettings

STEPS = 6
ADAMW = TrainingSettings(optimiser=OptimiserName.ADAMW, peak_lr=0.05, weight_decay=0.3, momentum=0.8)
SGD = TrainingSettings(peak_lr=0.1, weight_decay=0.3, momentum=0.8)


def small_trunk() -> nn.Module:
    """A matrix, which decays, and a bias, which does not."""
    torch.manual_seed(3)
    return nn.Linear(3, 2).double()


def one_cycle(step: int, total: int, peak: float, share: float) -> float:
    """Two halves of a cosine: from peak / 25 to the peak at `share` of the steps, then down to peak / 25 / 10^4."""
    turn = share * total - 1
    low, high, done = (
        (peak / 25, peak, step / turn) if step <= turn else (peak, peak / 25e4, (step - turn) / (total - 1 - turn))
    )
    return high + (low - high) / 2 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize("settings", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_each_step_is_the_formulas(settings: TrainingSettings) -> None:
    trunk, reference = small_trunk(), small_trunk()
    optimiser = Optimiser(trunk, settings, STEPS)
    first = [torch.zeros_like(weight) for weight in reference.parameters()]
    second = [torch.zeros_like(weight) for weight in reference.parameters()]
    for step in range(STEPS):
        rate = one_cycle(step, STEPS, settings.highest_lr, settings.warmup_share)
        assert optimiser.learning_rates == pytest.approx([rate, rate])
        gradients = [torch.randn_like(weight) for weight in trunk.parameters()]
        for weight, gradient in zip(trunk.parameters(), gradients, strict=True):
            weight.grad = gradient.clone()
        optimiser.step()
        for place, (weight, gradient) in enumerate(zip(reference.parameters(), gradients, strict=True)):
            decay = 0.3 if weight.ndim > 1 else 0.0
            if settings.optimiser is OptimiserName.SGD:
                gradient = gradient + decay * weight.data
                first[place] = gradient if step == 0 else 0.8 * first[place] + gradient
                weight.data -= rate * (gradient + 0.8 * first[place])
            else:
                first[place] = 0.8 * first[place] + 0.2 * gradient
                second[place] = 0.999 * second[place] + 0.001 * gradient**2
                mean, square = first[place] / (1 - 0.8 ** (step + 1)), second[place] / (1 - 0.999 ** (step + 1))
                weight.data -= rate * decay * weight.data + rate * mean / (square.sqrt() + 1e-8)
    for weight, expected in zip(trunk.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(weight, expected, rtol=1e-9, atol=1e-12)


def test_what_is_left_out_follows_the_optimiser() -> None:
    sgd, adamw = TrainingSettings(), TrainingSettings(optimiser=OptimiserName.ADAMW)
    assert (sgd.highest_lr, sgd.decay) == (0.1, 5e-4)
    assert (adamw.highest_lr, adamw.decay) == (0.002, 0.01)
    chosen = dataclasses.replace(adamw, peak_lr=0.01, weight_decay=0.0)
    assert (chosen.highest_lr, chosen.decay) == (0.01, 0.0)


@pytest.mark.parametrize(("settings", "held"), [(SGD, 2), (ADAMW, 6)], ids=["sgd", "adamw"])
def test_the_state_is_all_moments_and_the_rates(settings: TrainingSettings, held: int) -> None:
    trunk = small_trunk()
    optimiser = Optimiser(trunk, settings, STEPS)
    assert set(optimiser.state()) == {"learning_rates"}
    for weight in trunk.parameters():
        weight.grad = torch.ones_like(weight)
    optimiser.step()
    assert len(optimiser.state()) == held + 1
