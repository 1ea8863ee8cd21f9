"""Steps of training: determinism, the learning rate's cycle, and a loss that ran away."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mple.model.settings import ModelSettings
from mple.model.training import DivergenceError, TrunkTrainer
from mple.model.weights import build_trunk, state_sha256
from mple.plan import Augment, Precision, TrainingSettings

MODEL, CLASSES = ModelSettings(width=0.0625, dropout=0.2), 3
SETTINGS = TrainingSettings(peak_lr=0.02)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def maps(step: int) -> Tensor:
    """Features of one step."""
    return torch.randn(8, MODEL.filters, 28, 28, generator=torch.Generator().manual_seed(step))


def trained(settings: TrainingSettings, steps: int = 3) -> tuple[str, list[float]]:
    """Digest of the weights after some steps, and the losses."""
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, settings.seed), settings, total_steps=10)
    losses = [trainer.step(maps(step), LABELS) for step in range(steps)]
    assert trainer.steps_done == steps
    return state_sha256(trainer.trunk), losses


@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": Precision.BF16}, {"augment": (Augment.SHIFT, Augment.ERASE)}],
    ids=["f32", "bf16", "varied features"],
)
def test_equal_input_gives_equal_weights_bit_for_bit(changes: dict[str, object]) -> None:
    """Whatever torch's global random state was before: dropout and augmentation follow seed and step."""
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]
    torch.manual_seed(1)
    first = trained(settings)
    torch.manual_seed(2)
    assert trained(settings) == first


def test_the_seed_matters() -> None:
    """Through dropout alone, with equal first weights."""
    trunks = [build_trunk(MODEL, CLASSES, 1) for _ in range(2)]
    for trunk, seed in zip(trunks, (1, 2), strict=True):
        TrunkTrainer(trunk, dataclasses.replace(SETTINGS, seed=seed), 10).step(maps(0), LABELS)
    assert state_sha256(trunks[0]) != state_sha256(trunks[1])


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_allowed_seed_works(seed: int) -> None:
    settings = dataclasses.replace(SETTINGS, seed=seed, augment=(Augment.SHIFT,))
    assert torch.isfinite(torch.tensor(trained(settings, steps=2)[1])).all()


def test_loss_falls_on_one_batch() -> None:
    trainer = TrunkTrainer(build_trunk(ModelSettings(width=0.0625), 3, 1), SETTINGS, total_steps=30)
    losses = [trainer.step(maps(0), LABELS) for _ in range(30)]
    assert losses[0] == pytest.approx(1.0986, abs=0.1)  # ln 3: first scores are near zero
    assert losses[-1] < 0.5 * losses[0]


def test_learning_rate_runs_through_one_cycle() -> None:
    """A 25th of the peak at first, the peak after the warm-up, next to nothing at the last step."""
    settings = TrainingSettings(peak_lr=0.1, warmup_share=0.3)
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), settings, total_steps=11)
    rates = []
    for step in range(11):
        rates.append(trainer.learning_rate)
        trainer.step(maps(step), LABELS)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1, rel=0.1)
    assert rates.index(max(rates)) in (2, 3)
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)
    assert rates[: rates.index(max(rates)) + 1] == sorted(rates[: rates.index(max(rates)) + 1])


def test_a_run_of_a_single_step_works() -> None:
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), SETTINGS, total_steps=1)
    assert trainer.step(maps(0), LABELS) > 0


def test_a_loss_that_is_no_number_stops_training_and_spares_the_weights() -> None:
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), SETTINGS, total_steps=10)
    before = {name: weight.detach().clone() for name, weight in trainer.trunk.named_parameters()}
    with pytest.raises(FloatingPointError, match="a feature of step 0 is NaN or infinite"):
        trainer.step(torch.full((8, MODEL.filters, 28, 28), float("nan")), LABELS)
    assert trainer.steps_done == 0
    for name, weight in trainer.trunk.named_parameters():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_network_that_has_diverged_is_named_with_its_cure_wherever_it_shows(value: float) -> None:
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), SETTINGS, total_steps=10)
    trainer.step(maps(0), LABELS)
    trainer.require_finite()
    with torch.no_grad():
        trainer.trunk.get_parameter("classifier.3.bias")[1] = value
    cure = r": lower training.peak_lr \(now 0.02\)"
    with pytest.raises(DivergenceError, match=f"after step 1 classifier.3.bias holds NaN or infinity{cure}"):
        trainer.require_finite()
    with pytest.raises(DivergenceError, match=f"after step 1 the network answers with NaN or infinity{cure}"):
        trainer.logits(maps(1))
    with pytest.raises(DivergenceError, match=f"the loss of step 1 is (nan|inf){cure}"):
        trainer.step(maps(1), LABELS)


def test_a_rate_without_bounds_makes_a_network_diverge() -> None:
    steep = dataclasses.replace(SETTINGS, peak_lr=10.0, weight_decay=1e6)
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), steep, total_steps=10)

    def train() -> None:
        for number in range(10):
            trainer.step(maps(number), LABELS)
        trainer.require_finite()

    with pytest.raises(DivergenceError, match=r"lower training.peak_lr \(now 10\) or training.weight_decay \(now 1e"):
        train()


def test_scoring_changes_nothing_and_does_not_depend_on_the_batch() -> None:
    trainer = TrunkTrainer(build_trunk(MODEL, CLASSES, 1), SETTINGS, total_steps=10)
    trainer.step(maps(0), LABELS)
    before = state_sha256(trainer.trunk)
    whole = trainer.logits(maps(1))
    assert torch.allclose(whole[:3], trainer.logits(maps(1)[:3]), rtol=0, atol=1e-5)
    assert whole.dtype == torch.float32
    assert state_sha256(trainer.trunk) == before
