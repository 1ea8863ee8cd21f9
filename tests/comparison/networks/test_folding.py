"""Folded networks give the trained networks' logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from comparison.networks import Minionn, folded_minionn, folded_vgg16, vgg16_of_run
from comparison.networks.folding import folded
from comparison.networks.minionn import NORMALISATION
from mple.data.normalise import normalise
from mple.disk.damage import with_checksum
from mple.model.first_layer.plain import plain_features
from mple.model.settings import ModelSettings
from mple.model.stem import Stem, planned_stem
from mple.model.weights import build_trunk, save_trunk
from mple.pki import Vault
from mple.plan import NormalisationSettings
from mple.plan.orders import channel_order, label_order
from mple.records.run_folder import RunFolder
from tests.support.small_plan import small_plan

PIXELS = np.random.default_rng(1).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
GREYS = NormalisationSettings(mean=(128 / 255,), std=(0.2,))
"""A mean that is a pixel: folding is exact then."""


def lived_in(network: nn.Module) -> nn.Module:
    """With norms as after a training: none of their numbers is the first one."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                values.copy_(torch.empty_like(values).uniform_(low, high, generator=generator))
    return network.eval()


def trunk_and_stem() -> tuple[nn.Module, Stem]:
    model = ModelSettings(width=0.125)
    trunk = lived_in(build_trunk(model, 4, seed=2))
    assert isinstance(trunk, nn.Module)
    return trunk, Stem.from_seed("folding", filters=model.filters, channels=3, kernel=3)


def test_a_norm_goes_into_a_convolution() -> None:
    convolution, norm = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
    lived_in(norm)
    x_NCHW = torch.randn(4, 2, 5, 5)
    weights_OIpp, bias_O = folded(convolution.weight.detach(), norm)
    with torch.no_grad():
        expected = norm(convolution(x_NCHW))
    found = nn.functional.conv2d(x_NCHW, weights_OIpp, bias_O, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_minionns_network_is_eight_stages_with_the_same_logits() -> None:
    torch.manual_seed(1)
    network = lived_in(Minionn(10))
    assert isinstance(network, Minionn)
    made = folded_minionn(network)
    with torch.no_grad():
        expected = network(torch.from_numpy(normalise(PIXELS, NORMALISATION))).numpy()
    found = made.run(PIXELS)
    # Half a grey level of the offset goes into the bias, which is not exact at the border.
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert [stage.pool for stage in made.stages] == ["none", "sum", "none", "sum", "none", "none", "none", "none"]
    assert [stage.weights_OIpp.shape[0] for stage in made.stages] == [64, 64, 64, 64, 64, 64, 16, 10]
    assert made.stages[-1].weights_OIpp.shape == (10, 1024, 1, 1)


def test_vgg16_is_fourteen_stages_with_the_same_logits() -> None:
    trunk, stem = trunk_and_stem()
    made = folded_vgg16(stem, trunk, GREYS)
    with torch.no_grad():
        expected = trunk(plain_features(stem, torch.from_numpy(normalise(PIXELS, GREYS)))).numpy()
    np.testing.assert_allclose(made.run(PIXELS), expected, rtol=1e-3, atol=1e-4)
    assert len(made.stages) == 14
    assert [number for number, stage in enumerate(made.stages, 1) if stage.pool == "max"] == [2, 4, 7, 10, 13]


def test_secret_orders_are_undone() -> None:
    """A trunk that takes features in an order and gives labels in one: place j is class labels[j]."""
    trunk, stem = trunk_and_stem()
    channels, labels = np.random.default_rng(3).permutation(stem.filters), np.array([2, 0, 3, 1])
    features = plain_features(stem, torch.from_numpy(normalise(PIXELS, GREYS)))[:, torch.from_numpy(channels)]
    with torch.no_grad():
        permuted = trunk(features).numpy()
    expected = np.empty_like(permuted)
    expected[:, labels] = permuted
    found = folded_vgg16(stem, trunk, GREYS, channels=channels, labels=labels).run(PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_several_scales_go_into_the_first_weights() -> None:
    trunk, stem = trunk_and_stem()
    scales = NormalisationSettings(mean=(128 / 255,) * 3, std=(0.2, 0.25, 0.3))
    with torch.no_grad():
        expected = trunk(plain_features(stem, torch.from_numpy(normalise(PIXELS, scales)))).numpy()
    np.testing.assert_allclose(folded_vgg16(stem, trunk, scales).run(PIXELS), expected, rtol=1e-3, atol=1e-4)


def test_what_can_not_be_made_of_stages_is_refused(tmp_path: Path) -> None:
    trunk, stem = trunk_and_stem()
    with pytest.raises(ValueError, match="64 pixels"):
        folded_vgg16(stem, trunk, GREYS, side_px=64)
    with pytest.raises(ValueError, match="one mean"):
        folded_vgg16(stem, trunk, NormalisationSettings(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)))
    with pytest.raises(ValueError, match=r"no plan\.json"):
        vgg16_of_run(tmp_path)


def test_a_simulations_network_takes_plain_pictures(tmp_path: Path) -> None:
    """As a run leaves it: the plan, the trunk in secret orders, and a site's vault with the secret behind them."""
    plan = replace(small_plan(side_px=32, channels=3, normalisation=GREYS), run_id="run1")
    secret = bytes(range(32))
    run, site = RunFolder(tmp_path, (plan.sites[0].name,)), plan.sites[0].name
    Vault(run.vault_folder(site)).keep_consortium_secret(plan.run_id, secret)
    run.config(site).write_text(
        'state = "state"\ntls = "tls"\nvault = "vault"\ncoordinator = "a:1"\ncompute = "a:2"\n'
        '[data]\nkind = "cifar10"\n'
    )
    (tmp_path / "plan.json").write_bytes(with_checksum(plan.to_json()))
    trunk = lived_in(build_trunk(ModelSettings(width=plan.model.width), 3, 4))
    assert isinstance(trunk, nn.Module)
    save_trunk(trunk, tmp_path / "model.safetensors", {})
    stem = planned_stem(plan.model, filters=8, channels=3)
    channels = channel_order(plan, secret)
    with torch.no_grad():
        permuted = trunk(
            plain_features(stem, torch.from_numpy(normalise(PIXELS, GREYS)))[:, torch.from_numpy(channels)]
        ).numpy()
    expected = np.empty_like(permuted)
    expected[:, label_order(plan, secret)] = permuted
    np.testing.assert_allclose(vgg16_of_run(tmp_path).run(PIXELS), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="another stem"):
        vgg16_of_run(tmp_path, Stem.from_seed("another", filters=8, channels=3, kernel=3))
