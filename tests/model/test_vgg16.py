"""VGG-16's trunk: depth, sizes, parameter count, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mple.model.first_layer.plain import plain_features
from mple.model.settings import ModelSettings
from mple.model.stem import Stem
from mple.model.weights import build_trunk, load_trunk, save_trunk, state_sha256

NARROW, CLASSES = ModelSettings(width=0.0625), 3


def test_sixteen_weighted_layers() -> None:
    """Thirteen convolutions, the stem one of them, in configuration D's order; one linear layer for its three."""
    trunk = build_trunk(ModelSettings(), 10, 1)
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    widths = [64, *(conv.out_channels for conv in convolutions)]
    assert widths == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert sum(isinstance(module, nn.MaxPool2d) for module in trunk.modules()) == 5
    assert [module.out_features for module in trunk.modules() if isinstance(module, nn.Linear)] == [10]


def test_parameter_count_by_hand() -> None:
    """9 weights per pair of channels, two per channel of the thirteen batch norms, 512 + 1 per class."""
    pairs = 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 2 * 256 * 256 + 256 * 512 + 5 * 512 * 512
    norms = 2 * (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512)
    trunk = build_trunk(ModelSettings(), 10, 1)
    assert 9 * pairs + norms + 513 * 10 == 14_722_314
    assert sum(weight.numel() for weight in trunk.parameters()) == 14_722_314


@pytest.mark.parametrize("side", [28, 33, 64, 224])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_takes_images_of_many_sizes(side: int, channels: int) -> None:
    stem = Stem.from_seed("sizes", filters=NARROW.filters, channels=channels, kernel=3)
    scores_BC = build_trunk(NARROW, CLASSES, seed=1)(plain_features(stem, torch.rand(2, channels, side, side)))
    assert scores_BC.shape == (2, 3)
    assert torch.isfinite(scores_BC).all()


def test_takes_oblong_images() -> None:
    assert build_trunk(NARROW, CLASSES, seed=1)(torch.rand(2, NARROW.filters, 28, 100)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(27, 28), (28, 225)])
def test_refuses_images_outside_its_range(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="28 to 224"):
        build_trunk(NARROW, CLASSES, seed=1)(torch.rand(2, NARROW.filters, *shape))


def test_first_weights_are_the_seeds_alone() -> None:
    """Torch's global random state is neither used nor moved."""
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = state_sha256(build_trunk(NARROW, CLASSES, seed=1))
    moved = torch.random.get_rng_state()
    torch.manual_seed(6)
    assert state_sha256(build_trunk(NARROW, CLASSES, seed=1)) == first
    assert state_sha256(build_trunk(NARROW, CLASSES, seed=2)) != first
    assert torch.equal(before, moved)


def test_a_saved_trunk_reads_back_equal(tmp_path: Path) -> None:
    trunk, path = build_trunk(NARROW, CLASSES, seed=1), tmp_path / "model.safetensors"
    trunk(torch.rand(4, NARROW.filters, 28, 28))  # moves the running statistics, which are part of the file
    save_trunk(trunk, path, {"run": "abc"})
    other = build_trunk(NARROW, CLASSES, seed=2)
    load_trunk(other, path)
    assert state_sha256(other) == state_sha256(trunk)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"run": "abc"}
    f_BFHW = torch.rand(2, NARROW.filters, 28, 28)
    assert torch.equal(trunk.eval()(f_BFHW), other.eval()(f_BFHW))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_trunk(build_trunk(NARROW, CLASSES, seed=1), path, {})
    with pytest.raises(ValueError, match="does not hold this network's weights"):
        load_trunk(build_trunk(ModelSettings(width=0.0625), 4, 1), path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_trunk(build_trunk(NARROW, CLASSES, seed=1), path, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold"):
        load_trunk(build_trunk(NARROW, CLASSES, seed=1), path)


def test_the_digest_sees_running_statistics() -> None:
    trunk = build_trunk(NARROW, CLASSES, seed=1)
    before = state_sha256(trunk)
    trunk(torch.rand(4, NARROW.filters, 28, 28))
    assert state_sha256(trunk) != before


def test_identity_hands_each_channel_on_and_draws_the_rest_as_before() -> None:
    drawn = build_trunk(NARROW, CLASSES, seed=1)
    begun = build_trunk(replace(NARROW, init="identity"), CLASSES, seed=1)
    for he, made in zip(drawn.parameters(), begun.parameters(), strict=True):
        if he.ndim < 4:
            assert torch.equal(he, made)
            continue
        inputs = he.shape[1]
        expected = torch.zeros_like(he[:inputs])
        for channel in range(inputs):
            expected[channel, channel, 1, 1] = 1
        assert torch.equal(made[:inputs], expected)
        assert torch.equal(made[inputs:], he[inputs:])
