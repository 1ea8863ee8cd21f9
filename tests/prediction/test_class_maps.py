"""Grad-CAM without gradients is Grad-CAM by torch's own gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import WEIGHT, layer_places
from mple.delivered.running import PlainNetwork
from mple.prediction.class_maps import class_maps
from tests.support.trunk_in_secret_order import TrunkInSecretOrder


def torch_stages(about: NetworkAbout, tensors: dict[str, np.ndarray]) -> nn.Sequential:
    """The plain network's features, by torch."""
    layers: list[nn.Module] = []
    for place in layer_places(about):
        if place is None:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        else:
            filters, channels, side, _ = tensors[f"features.{place}.weight"].shape
            layers += [nn.Conv2d(channels, filters, side, padding=side // 2), nn.BatchNorm2d(filters), nn.ReLU()]
    stages = nn.Sequential(*layers).eval()
    own = {name.removeprefix("features."): torch.from_numpy(value) for name, value in tensors.items()}
    stages.load_state_dict({name: own[name] for name in stages.state_dict() if name in own}, strict=False)
    return stages


def gradient_weights(maps_BFHW: Tensor, pooled: nn.Module, weight_CF: Tensor, classes: int) -> Tensor:
    """By definition: for each class the mean over positions of the derivatives of its logit, (B, C, F)."""
    found = []
    for number in range(classes):
        logit_B = pooled(maps_BFHW).mean(dim=(2, 3)) @ weight_CF[number]
        (slope_BFHW,) = torch.autograd.grad(logit_B.sum(), maps_BFHW)
        found.append(slope_BFHW.mean(dim=(2, 3)))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("side", [28, 32, 72])  # maps of 2 x 2, and of 5 x 5, whose last pool has odd ends
def test_maps_are_those_of_autograd(side: int) -> None:
    made = TrunkInSecretOrder(channels=1, side=side)
    tensors = made.tensors()
    stages = torch_stages(made.about, tensors)
    x_BCHW = torch.from_numpy(made.pixels_BCHW).float() * float(made.about.scale_and_shift()[0][0])
    x_BCHW = x_BCHW + float(made.about.scale_and_shift()[1][0])
    maps_BFHW = stages[:-1](x_BCHW).detach().requires_grad_()
    logits_BC, found_BFHW = PlainNetwork(tensors, made.about).logits_and_maps(made.pixels_BCHW)
    np.testing.assert_allclose(found_BFHW, maps_BFHW.detach(), rtol=1e-4, atol=1e-4)
    assert found_BFHW.shape[2:] == (-(-side // 16),) * 2
    weight_CF = tensors[WEIGHT]
    weights_BCF = gradient_weights(maps_BFHW, stages[-1], torch.from_numpy(weight_CF), len(weight_CF))
    by_gradient = torch.relu(torch.einsum("bcf,bfhw->bchw", weights_BCF, maps_BFHW)).detach().numpy()
    every = np.tile(np.arange(len(weight_CF)), (len(logits_BC), 1))
    np.testing.assert_allclose(class_maps(found_BFHW, weight_CF, every), by_gradient, rtol=1e-3, atol=1e-5)
    assert by_gradient.max() > 0.01
    chosen = np.array([[2], [0], [3]])
    np.testing.assert_array_equal(
        class_maps(found_BFHW, weight_CF, chosen)[:, 0],
        class_maps(found_BFHW, weight_CF, every)[np.arange(3), chosen[:, 0]],
    )
