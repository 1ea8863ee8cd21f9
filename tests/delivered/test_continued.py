"""A run that takes a delivered network whole must be one of its kind; what differs is named with its cure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mple.delivered.about import about_network
from mple.delivered.assembly import plain_network
from mple.delivered.continued import require_going_on
from mple.delivered.tensor_file import network_to_safetensors
from mple.model.initial_weights import InitialWeights, initial_trunk
from mple.model.stem import Stem
from mple.model.weights import build_trunk
from mple.morph import draw_order
from mple.plan import ModelSettings, NormalisationSettings, RunPlan, TaskKind, TaskSettings, WeightsFrom
from tests.support.small_plan import CLASSES, small_plan

FEATURES = ModelSettings(width=0.125, weights=WeightsFrom.FEATURES)
NETWORK = ModelSettings(width=0.125, weights=WeightsFrom.NETWORK)
BEFORE = small_plan(run_id="before", channels=3)
FILE = about_network(BEFORE, model_sha256="0a" * 32, epoch=3).to_metadata()


def lines(plan: RunPlan, file: dict[str, str] = FILE) -> list[str]:
    return require_going_on(file, plan, plan.classes, plan.channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", [FEATURES, NETWORK])
def test_a_run_of_the_same_kind_goes_on(model: ModelSettings, channels: int) -> None:
    assert lines(small_plan(model=model, channels=channels)) == []


def test_a_delivered_file_is_a_file_of_first_weights(tmp_path: Path) -> None:
    """What a site has put together from a trunk in secret orders answers, as first weights, as that trunk has."""
    about = about_network(BEFORE, model_sha256="0a" * 32, epoch=3)
    trunk = build_trunk(BEFORE.model, len(CLASSES), 5).eval()
    stem = Stem.from_seed("one", filters=BEFORE.filters, channels=3, kernel=3)
    channels, labels = draw_order(bytes(32), "channel order", BEFORE.filters), np.array([2, 0, 1])
    state = {name: tensor.numpy() for name, tensor in trunk.state_dict().items()}
    network = plain_network(about, state, stem.kernels_FCpp, channels, labels)
    path = tmp_path / "model.safetensors"
    path.write_bytes(network_to_safetensors(network, about))
    weights = InitialWeights.from_file(path)
    f_BFHW = torch.randn(2, BEFORE.filters, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = trunk(f_BFHW[:, torch.from_numpy(channels)])
        found = initial_trunk(NETWORK, len(CLASSES), 1, weights).eval()(f_BFHW)
    torch.testing.assert_close(found[:, torch.from_numpy(labels)], expected, rtol=0, atol=1e-6)
    assert weights.stem.digest() == stem.digest()
    assert lines(small_plan(model=NETWORK, channels=3), dict(weights.metadata)) == []


def test_a_file_that_no_run_delivered_tells_nothing() -> None:
    assert lines(small_plan(model=NETWORK, classes=("x", "y")), {"format": "pt"}) == []


def test_other_answers_are_refused_where_they_are_taken() -> None:
    changes = {
        "at place 1 'cyst' against 'normal'; name them in that order": small_plan(
            model=NETWORK, channels=3, classes=("normal", "cyst", "tumour")
        ),
        "3 classes, this run 2": small_plan(model=NETWORK, channels=3, classes=("cyst", "normal")),
        'task.kind = "classes", this run has "labels"; set model.weights = "features"': dataclasses.replace(
            small_plan(model=NETWORK, channels=3), task=TaskSettings(kind=TaskKind.LABELS)
        ),
    }
    for text, plan in changes.items():
        with pytest.raises(ValueError, match=text):
            lines(plan)
        assert lines(dataclasses.replace(plan, model=FEATURES)) == []


def test_other_inputs_are_refused_for_a_whole_network_and_told_for_its_convolutions() -> None:
    imagenet = NormalisationSettings(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    said = r"normalisation\.mean = \[0.5\], std = \[0.25\]; this run has \[0.485, 0.456, 0.406\]"
    with pytest.raises(ValueError, match=said):
        lines(small_plan(model=NETWORK, channels=3, normalisation=imagenet))
    assert len(lines(small_plan(model=FEATURES, channels=3, normalisation=imagenet))) == 1
    thrice = NormalisationSettings(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert lines(small_plan(model=NETWORK, channels=3, normalisation=thrice)) == []


def test_grey_pictures_can_not_be_normalised_as_three_different_channels() -> None:
    coloured = small_plan(channels=3, normalisation=NormalisationSettings(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)))
    file = about_network(coloured, model_sha256="0a" * 32, epoch=3).to_metadata()
    grey = small_plan(model=FEATURES, normalisation=NormalisationSettings(mean=(0.5,), std=(0.2,)))
    assert len(lines(grey, file)) == 1
