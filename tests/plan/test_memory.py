"""Forecasts of memory: near what torch keeps, growing with what a plan decides, and what is said and refused by them.
Real nodes' peaks beside them: `python -m benchmarks.memory`.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mple.machine import MemoryShortError
from mple.model.settings import ModelSettings, Precision
from mple.model.trunks import TRUNKS
from mple.node import foresight
from mple.plan import (
    Custody,
    DeliverTo,
    DeliverySettings,
    MorphSettings,
    OptimiserName,
    RunPlan,
    TrainingSettings,
    WireSettings,
)
from mple.plan.memory import (
    MIB,
    Forecast,
    RunSize,
    coordinator_memory,
    device_memory,
    layer_values,
    sample_cache_bytes,
    site_memory,
    trainer_memory,
)
from tests.support.small_plan import small_plan

PLAN = small_plan(channels=3, side_px=32, training=TrainingSettings(batch=64))
IMAGES = 10_000


@pytest.mark.parametrize(("width", "side_px"), [(0.125, 28), (0.25, 45)])
def test_the_memory_of_a_step_is_near_what_torch_keeps(width: float, side_px: int) -> None:
    """By torch's own hook on every tensor that a step keeps for its way back."""
    spec, model = TRUNKS["vgg16"], ModelSettings(width=width)
    trunk = spec.make(model, 3)
    weights = sum(weight.numel() for weight in trunk.parameters())
    # batch norm, dropout and the classifier aside, the trunk has no first convolution
    stem = 9 * 3 * spec.filters(width)
    assert abs(spec.weights(width, 3) - weights) <= stem
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    own = {weight.data_ptr() for weight in trunk.parameters()}
    features = torch.zeros(2, spec.filters(width), side_px, side_px, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trunk(features).sum()
    held = sum(size for place, size in kept.items() if place not in own)
    assert loss.requires_grad
    expected = 2 * 4 * spec.kept_values(width, side_px, side_px)
    assert 0.5 * held < expected < 1.2 * held


def large(**changes: object) -> RunPlan:
    """The plan with so many pictures that a whole batch is there."""
    sites = tuple(dataclasses.replace(site, train_images=IMAGES) for site in PLAN.sites)
    return dataclasses.replace(PLAN, sites=sites, **changes)


def trainer(plan: RunPlan) -> Forecast:
    return trainer_memory(plan, RunSize.of(plan))


def test_layers_weights_and_moments_are_exactly_what_they_hold() -> None:
    plan = large(training=TrainingSettings(optimiser=OptimiserName.ADAMW, precision=Precision.BF16))
    weights = TRUNKS["vgg16"].weights(plan.model.width, len(plan.classes))
    held = trainer(plan).held
    # 3 x 4 x 4 inputs, eight filters over 6 x 6 pixels, in bfloat16, one for each site
    assert held["layers"] == len(plan.sites) * 48 * plan.filters * 36 * 2
    assert held["weights, gradients and moments"] == 4 * weights * (1 + 2 + 2)  # and casts for bfloat16
    paper = dataclasses.replace(plan, morph=MorphSettings(preset="paper"))
    assert trainer(paper).held["layers"] == len(plan.sites) * 3072 * plan.filters * 32 * 32
    exact = dataclasses.replace(paper, training=TrainingSettings())
    assert trainer(exact).held["layers"] == 4 * trainer(paper).held["layers"]


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 64, "width": 64},
        {"morph": MorphSettings(preset="paper")},
        {"training": TrainingSettings(batch=128)},
        {"training": TrainingSettings(batch=64, optimiser=OptimiserName.ADAMW)},
        {"model": ModelSettings(width=0.5)},
    ],
    ids=str,
)
def test_memory_grows_with_what_the_settings_ask_for(changes: dict[str, object]) -> None:
    assert trainer(large(**changes)).total > trainer(large()).total


def test_ranks_share_a_batch_and_the_samples() -> None:
    alone = large(training=TrainingSettings(batch=512))
    shared = large(training=TrainingSettings(batch=512, ranks=4))
    one, four = trainer(alone), trainer(shared)
    assert 3.5 * four.passing["a step and a checkpoint"] < 4 * one.passing["a step and a checkpoint"]
    assert four.held["layers"] == one.held["layers"]
    quarter, whole = (sample_cache_bytes(plan, RunSize.of(plan)) for plan in (shared, alone))
    assert quarter == pytest.approx(whole / 4, rel=1e-3)


def test_on_a_device_of_its_own_the_machine_holds_what_passes() -> None:
    plan = large()
    size = RunSize.of(plan)
    on_machine, there = trainer_memory(plan, size, cuda=True), device_memory(plan, size)
    assert "layers" not in on_machine.held and there.held["layers"] == trainer(plan).held["layers"]


def test_a_site_holds_its_pictures_and_one_thing_after_the_other() -> None:
    size = RunSize.of(PLAN)
    few, many = (site_memory(PLAN, size, images, 3072 * images) for images in (0, IMAGES))
    assert many.held["pictures"] - few.held["pictures"] == IMAGES * (3 * 32 * 32 + 8)
    assert few.total == few.program + max(few.passing.values())
    none = dataclasses.replace(PLAN, delivery=DeliverySettings(to=DeliverTo.NONE))
    assert site_memory(none, size, 0, 0).passing["putting the network together"] == 0
    paper = dataclasses.replace(PLAN, morph=MorphSettings(preset="paper"))
    assert site_memory(paper, size, 0, 0).passing["building layers"] >= 5 * 8 * 3072**2


def test_several_sites_in_a_process_share_its_program_and_take_turns() -> None:
    size = RunSize.of(PLAN)
    one, ten = site_memory(PLAN, size, 100, 5), site_memory(PLAN, size, 1000, 50, sites=10, at_once=2)
    assert (ten.program, ten.held["pictures"]) == (one.program, 10 * one.held["pictures"])
    assert ten.passing["building layers"] == 2 * one.passing["building layers"]
    paper = dataclasses.replace(PLAN, morph=MorphSettings(preset="paper"))
    cores = site_memory(paper, size, 1000, 50, sites=10, at_once=2).passing["morphing"]
    assert cores > 9 * site_memory(paper, size, 100, 5).passing["morphing"] / 1.2  # each has its own


def test_a_coordinator_builds_layers_in_escrow_only() -> None:
    paper, size = dataclasses.replace(PLAN, morph=MorphSettings(preset="paper")), RunSize.of(PLAN)
    site, escrow = (coordinator_memory(paper, size, custody) for custody in (Custody.SITE, Custody.ESCROW))
    assert site.total > 4 * layer_values(paper.image, paper)
    assert escrow.total > site.total


def test_a_forecast_is_said_by_its_parts_and_refused_where_the_machine_is_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(foresight, "log", lambda event, text, **_: said.append((event, text)))
    monkeypatch.setattr(foresight, "warn", lambda event, text, **_: said.append((event, text)))
    monkeypatch.setattr(foresight, "held_bytes", lambda: 100 * MIB)
    monkeypatch.setattr(foresight, "available_bytes", lambda: 2000 * MIB)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 4096 * MIB)
    forecast = Forecast(program=100 * MIB, held={"layers": 1900 * MIB}, passing={"a step": 48 * MIB, "none": 0})
    foresight.foresee_memory(forecast, "training", "lower it")
    words = "training will need about 2.0 GiB: program 100 MiB, layers 1.9 GiB; one after the other a step 48 MiB"
    assert said == [("memory", words)]
    foresight.foresee_memory(forecast, "training", "lower it", processes=2)
    assert [event for event, _ in said[1:]] == ["memory", "memory_scarce"]
    assert "in each of 2 processes will need 3.8 GiB more, and 2.0 GiB of memory are free now: end" in said[-1][1]
    with pytest.raises(MemoryShortError, match=r"training in each of 3 .* needs 6\.0 GiB .* has 4\.0 GiB; lower it"):
        foresight.foresee_memory(forecast, "training", "lower it", processes=3)
    foresight.foresee_device(forecast, "cuda:0", total=3000 * MIB, free=10 * MIB, fix="lower it")
    assert "training on cuda:0 will need 2.0 GiB, and 10 MiB of its memory are free now" in said[-1][1]
    with pytest.raises(MemoryShortError, match=r"training on cuda:0: needs 2\.0 GiB of memory, cuda:0 has 1\.0 GiB"):
        foresight.foresee_device(forecast, "cuda:0", total=1024 * MIB, free=0, fix="lower it")


def test_in_escrow_custody_a_basis_is_folded_into_a_layer_beside_it() -> None:
    plan = dataclasses.replace(PLAN, wire=WireSettings(codec="k6"), morph=MorphSettings(preset="paper"))
    folding = trainer_memory(plan, RunSize.of(plan), custody=Custody.ESCROW).passing["folding a basis"]
    assert folding >= 2 * 4 * (3 * 32 * 32) * (plan.filters * 32 * 32)
    assert trainer_memory(plan, RunSize.of(plan)).passing["folding a basis"] == 0
