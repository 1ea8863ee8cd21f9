"""The card of a delivered network, and the lines of Python in it: run as they stand, they load the network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mple.delivered.card import Figure, model_card
from mple.delivered.check import compare_answers
from mple.delivered.loading import torch_lines, torch_use, torchvision_lines
from mple.delivered.onnx_file import network_to_onnx
from mple.delivered.tensor_file import network_to_safetensors
from mple.model.settings import TaskKind
from mple.plan import WeightsFrom
from tests.support.delivered_record import record_of
from tests.support.trunk_in_secret_order import TrunkInSecretOrder


def run(lines: str, **names: Any) -> dict[str, Any]:
    exec(compile(lines, "card", "exec"), names)
    return names


def blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_lines_of_the_card_load_the_network(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = TrunkInSecretOrder(channels=channels, side=28)
    tensors = made.tensors()
    (tmp_path / "model.safetensors").write_bytes(network_to_safetensors(tensors, made.about))
    (tmp_path / "model.onnx").write_bytes(network_to_onnx(tensors, made.about))
    monkeypatch.chdir(tmp_path)
    load, use, onnx = blocks(model_card(record_of(made.about), made.plan))
    with torch.no_grad():
        found = run(load + use, pixels=torch.from_numpy(made.pixels_BCHW))
    np.testing.assert_allclose(found["logits"].numpy(), made.morphed_logits(), atol=1e-4)
    np.testing.assert_allclose(found["probabilities"].sum(1).numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(run(onnx, pixels=made.pixels_BCHW)["logits"], made.morphed_logits(), atol=1e-4)


def test_three_lines_of_torchvision_where_it_has_the_module() -> None:
    """That they load it is shown where there is a torchvision: benchmarks/delivered_network.py."""
    about = replace(TrunkInSecretOrder(channels=3, side=28).about, model_width=1.0)
    assert torchvision_lines(replace(about, model_width=0.5)) == ""
    whole = replace(about, height=32, width=64)
    assert torchvision_lines(whole) == (
        "import safetensors.torch, torch, torchvision\n"
        "network = torchvision.models.vgg16_bn(num_classes=4)\n"
        "network.avgpool, network.classifier = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(512, 4)\n"
        'network.load_state_dict(safetensors.torch.load_file("model.safetensors")); network.eval()\n'
    )
    grey = torchvision_lines(replace(about, channels=1)).splitlines()
    assert "network.features[0] = torch.nn.Conv2d(1, 64, 3, padding=1)" in grey
    (pools,) = [line for line in grey if line.startswith("for place in")]
    layers = [name for count in (2, 2, 3, 3, 3) for name in ["convolution", "norm", "relu"] * count + ["pool"]]
    assert str(tuple(place for place, name in enumerate(layers) if name == "pool")) in pools
    assert torch_lines().count("\n") < 20
    assert "sigmoid" in torch_use(replace(about, task=TaskKind.LABELS))


def test_a_card_says_what_is_known_and_has_no_markup_of_others() -> None:
    made = TrunkInSecretOrder(channels=1, side=28)
    classes = ("a | b", "<b>c</b>", "*d*", "e")
    about, plan = replace(made.about, classes=classes), replace(made.plan, classes=classes)
    told_BC = np.zeros((2, 4), np.float32)
    record = replace(record_of(about), check=compare_answers(plan, "test", told_BC + np.float32(1e-5), told_BC))
    figures = [
        Figure(name="auroc", of_class="a | b", split="test", whose="all sites", value=0.81239, low=0.7, high=0.9),
        Figure(name="accuracy", split="val", whose="north", value=0.5),
    ]
    card = model_card(record, plan, figures)
    assert "0. a \\| b\n  1. \\<b\\>c\\</b\\>\n  2. \\*d\\*" in card
    assert "### Test pictures of all sites\n" in card
    assert "| a \\| b | 0.812 (0.700 to 0.900) |\n" in card
    assert "### Validation pictures of north\n" in card
    assert "| accuracy | 0.5000 |  |\n" in card
    assert "largest difference of logits 1.0e-05, the same decision on 2 of 2" in card
    assert "| north | 5 | 0 | 3 | unknown |" in card
    assert all(f"`{digest}`" in card for digest in (*record.sha256.values(), about.model_sha256, plan.stem_digest))
    assert 'codec = "f32"' in card
    assert max(len(line) for line in card.splitlines()) < 160
    assert "weights, whose digest is below" not in card


@pytest.mark.parametrize(("weights", "parts"), [("network", "all layers"), ("features", "the convolutions")])
def test_a_card_says_that_training_began_with_a_file(weights: str, parts: str) -> None:
    made = TrunkInSecretOrder(channels=1, side=28)
    model = replace(made.plan.model, weights=WeightsFrom(weights))
    plan = replace(made.plan, model=model, weights_digest="0d" * 32)
    card = model_card(record_of(made.about), plan)
    assert f"from scratch: {parts} came from a file of weights, whose digest is below" in card
    assert "0d" * 32 in card
