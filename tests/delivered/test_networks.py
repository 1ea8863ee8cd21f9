"""The delivered network against torch: the same answers from its weights, from `model.onnx`, and by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import checker, load_model_from_string, numpy_helper
from onnxruntime import InferenceSession
from safetensors.torch import load, save
from torch import nn

from mple.delivered.assembly import plain_network
from mple.delivered.onnx_file import OPSET, network_to_onnx
from mple.delivered.running import PlainNetwork
from mple.delivered.tensor_file import network_from_safetensors, network_to_safetensors, tensors_of
from tests.support.trunk_in_secret_order import TrunkInSecretOrder

CASES = [
    {"channels": 1, "side": 28},
    {"channels": 3, "side": 32, "kernel": 5},
    {"channels": 3, "side": 64, "width": 0.25},
    {"channels": 1, "side": 224},
    {"channels": 2, "side": 33, "kernel": 1},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_network_answers_as_the_trunk_does(case: dict[str, float]) -> None:
    made = TrunkInSecretOrder(**case)  # type: ignore[arg-type]
    tensors, expected_BC = made.tensors(), made.morphed_logits()
    assert np.ptp(expected_BC) > 0.5, "answers that are all alike would show nothing"
    logits_BC, maps_BFHW = PlainNetwork(tensors, made.about).logits_and_maps(made.pixels_BCHW)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-4)
    by_onnx = InferenceSession(network_to_onnx(tensors, made.about)).run(None, {"pixels": made.pixels_BCHW})
    np.testing.assert_allclose(by_onnx[0], expected_BC, atol=1e-4)
    np.testing.assert_allclose(by_onnx[1], maps_BFHW, rtol=1e-4, atol=1e-4)
    pooled_BFHW = nn.functional.max_pool2d(torch.from_numpy(maps_BFHW), 2, ceil_mode=True)
    head = tensors["classifier.weight"], tensors["classifier.bias"]
    np.testing.assert_allclose(pooled_BFHW.mean((2, 3)).numpy() @ head[0].T + head[1], expected_BC, atol=1e-4)


CASE = TrunkInSecretOrder(channels=1, side=28)


def test_the_file_reads_back_equal_in_torch_and_here() -> None:
    tensors = CASE.tensors()
    content = network_to_safetensors(tensors, CASE.about)
    about, found = network_from_safetensors(content, "it")
    assert about == CASE.about
    for read in (found, {name: tensor.numpy() for name, tensor in load(content).items()}):
        assert read.keys() == tensors.keys()
        assert all(np.array_equal(read[name], tensors[name]) for name in tensors)


def test_the_library_of_onnx_takes_the_file_and_writes_the_same_bytes() -> None:
    tensors = CASE.tensors()
    content = network_to_onnx(tensors, CASE.about)
    model = load_model_from_string(content)
    checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == content
    scale_C, shift_C = CASE.about.scale_and_shift()
    kept = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    expected = {**tensors, "scale": scale_C.reshape(1, 1, 1), "shift": shift_C.reshape(1, 1, 1)}
    assert kept.keys() == expected.keys()
    assert all(np.array_equal(kept[name], expected[name]) for name in kept)
    assert {one.key: one.value for one in model.metadata_props} == CASE.about.to_metadata()
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]


def test_names_and_shapes_are_those_of_torchvision() -> None:
    """Configuration D by hand: a convolution at each of these places, its batch norm behind it."""
    places = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    names = {f"features.{place}.{name}" for place in places for name in ("weight", "bias")}
    names |= {
        f"features.{place + 1}.{name}" for place in places for name in ("weight", "bias", "running_mean", "running_var")
    }
    tensors = CASE.tensors()
    assert set(tensors) == names | {"classifier.weight", "classifier.bias"}
    assert all(not tensors[f"features.{place}.bias"].any() for place in places)


def test_bfloat16_is_read_as_torch_reads_it() -> None:
    drawn = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    found = tensors_of(save({"a": drawn, "n": torch.tensor(3)}), "it")
    assert np.array_equal(found["a"], drawn.float().numpy())
    assert set(found) == {"a"}


def test_what_is_no_network_is_refused() -> None:
    trunk = {name: tensor.numpy() for name, tensor in CASE.trunk.state_dict().items()}
    orders = CASE.stem.kernels_FCpp, CASE.channel_order, CASE.label_order
    with pytest.raises(ValueError, match=r"lacks the tensor 'features\.3\.weight'"):
        plain_network(CASE.about, {k: v for k, v in trunk.items() if k != "features.2.weight"}, *orders)
    with pytest.raises(ValueError, match="has the tensor 'more'"):
        plain_network(CASE.about, {**trunk, "more": trunk["classifier.3.bias"]}, *orders)
    with pytest.raises(ValueError, match=r"classifier\.bias has shape \(3,\)"):
        plain_network(CASE.about, {**trunk, "classifier.3.bias": np.zeros(3, np.float32)}, *orders)
    with pytest.raises(ValueError, match="NaN"):
        plain_network(CASE.about, {**trunk, "classifier.3.bias": np.full(4, np.nan, np.float32)}, *orders)
    with pytest.raises(ValueError, match="no safetensors file, or damaged"):
        network_from_safetensors(network_to_safetensors(CASE.tensors(), CASE.about)[:-1], "it")
    with pytest.raises(ValueError, match="not delivered by a run"):
        network_from_safetensors(save({"a": torch.zeros(1)}), "it")


def test_pictures_of_another_kind_are_refused() -> None:
    network = PlainNetwork(CASE.tensors(), CASE.about)
    for pixels in (np.zeros((1, 1, 28, 29), np.uint8), np.zeros((1, 1, 28, 28), np.float32)):
        with pytest.raises(ValueError, match=r"the network takes uint8 \(one or more, 1, 28, 28\)"):
            network.logits(pixels)  # type: ignore[arg-type]
