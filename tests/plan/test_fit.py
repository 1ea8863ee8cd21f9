"""What can't be trained is refused before anything is sent; the memory that training takes is near what torch keeps."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mple.data import Dataset, LabelledImages
from mple.machine import MemoryShortError
from mple.model.settings import ModelSettings, TaskKind
from mple.model.trunks import TRUNKS
from mple.morph import ImageShape
from mple.plan import (
    DeliverTo,
    DeliverySettings,
    MorphSettings,
    NormalisationSettings,
    OptimiserName,
    PlanError,
    RunChoices,
    TrainingSettings,
)
from mple.plan.fit import check_any_run, check_compute_memory, check_images, check_site_memory, compute_bytes
from tests.support.small_plan import small_plan


@pytest.mark.parametrize(
    ("height", "width", "choices", "text"),
    [
        (17, 31, RunChoices(), "images of 17 x 31 pixels; vgg16 takes 28 to 224 a side; set side_px"),
        (256, 256, RunChoices(), "images of 256 x 256 pixels"),
        (512, 512, RunChoices(), "images of 512 x 512 pixels"),
        (28, 27, RunChoices(), "images of 28 x 27 pixels"),
        (32, 32, RunChoices(morph=MorphSettings(preset="paper", kappa=5)), "kappa = 5 does not divide"),
        (32, 32, RunChoices(morph=MorphSettings(preset="mole"), model=ModelSettings(kernel=1)), "morph.border = 1 is"),
        (224, 224, RunChoices(morph=MorphSettings(preset="paper")), "GiB; choose the tiled layout"),
        (
            32,
            32,
            RunChoices(normalisation=NormalisationSettings(mean=(0.5, 0.5), std=(1.0, 1.0))),
            "2 means for 3 channels",
        ),
    ],
)
def test_images_that_a_run_can_not_take_are_refused(height: int, width: int, choices: RunChoices, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        check_images(ImageShape(channels=3, height=height, width=width), choices)


@pytest.mark.parametrize("side_px", [28, 33, 224])
def test_other_images_pass(side_px: int) -> None:
    check_images(ImageShape(channels=3, height=side_px, width=side_px), RunChoices())


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


def test_a_plan_beyond_the_machine_is_refused_at_the_compute_node(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan()
    needed = compute_bytes(plan)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: needed)
    check_compute_memory(plan)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: needed - 1)
    with pytest.raises(MemoryShortError, match=r"layers, the network and a batch of \d+: needs .*; lower training"):
        check_compute_memory(plan)


def test_memory_grows_with_batch_sites_and_sides() -> None:
    small = small_plan(channels=3, side_px=32)
    wider = dataclasses.replace(small, height=64, width=64)
    assert compute_bytes(wider) > compute_bytes(small)
    dense = dataclasses.replace(small, morph=MorphSettings(preset="paper"))
    weight = 3 * 32 * 32 * math.prod((small.filters, 32, 32)) * 4
    assert compute_bytes(dense) - compute_bytes(small) > len(small.sites) * weight


def test_a_second_moment_takes_as_much_as_the_weights() -> None:
    adamw = small_plan(training=TrainingSettings(optimiser=OptimiserName.ADAMW))
    weights = TRUNKS["vgg16"].weights(adamw.model.width, len(adamw.classes))
    assert compute_bytes(adamw) - compute_bytes(small_plan()) == 4 * weights


def test_a_site_checks_its_pictures_and_the_layer_that_it_would_build(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(small_plan(channels=1, side_px=28), morph=MorphSettings(preset="paper"))
    images = LabelledImages(np.zeros((3, 1, 28, 28), np.uint8), np.array([0, 1, 0]))
    dataset = Dataset(name="x", classes=("a", "b"), train=images, test=images)
    needed = 2 * 3 * 28 * 28 + 4 * (28 * 28) * (plan.filters * 28 * 28)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: needed)
    check_site_memory(plan, dataset)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: needed - 1)
    with pytest.raises(MemoryShortError, match=r"layer or network: needs .*; take fewer pictures"):
        check_site_memory(plan, dataset)


def test_a_site_has_room_for_the_network_or_is_delivered_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan(channels=1, side_px=28)
    images = LabelledImages(np.zeros((1, 1, 28, 28), np.uint8), np.array([0]))
    dataset = Dataset(name="x", classes=("a", "b"), train=images, test=images)
    needed = 2 * 28 * 28 + 7 * 4 * TRUNKS["vgg16"].weights(plan.model.width, len(plan.classes))
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: needed - 1)
    with pytest.raises(MemoryShortError, match="network"):
        check_site_memory(plan, dataset)
    check_site_memory(dataclasses.replace(plan, delivery=DeliverySettings(to=DeliverTo.NONE)), dataset)


def test_more_labels_than_a_run_holds_are_refused() -> None:
    image = ImageShape(channels=1, height=28, width=28)
    check_any_run(image, classes=500, train=500_000, test=0, val=0, task=TaskKind.LABELS)
    check_any_run(image, classes=501, train=500_000, test=0, val=0)
    for classes, train in ((501, 10), (500, 500_001)):
        with pytest.raises(PlanError, match=f"{classes} labels of {train} training images; a run can hold 500 labels"):
            check_any_run(image, classes=classes, train=train, test=0, val=0, task=TaskKind.LABELS)
