"""First weights from a file: the same answers as torchvision's own module gives, and refusals that name the tensor."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mple.model.first_layer.plain import plain_features
from mple.model.initial_weights import InitialWeights, WeightsError, initial_trunk
from mple.model.settings import ModelSettings, WeightsFrom
from mple.model.stem import planned_stem
from mple.model.weights import build_trunk, save_trunk, state_sha256
from tests.support.torchvision_vgg16 import TorchvisionVgg16, lived_in

WIDTH, CLASSES = 0.125, 3
FEATURES = ModelSettings(width=WIDTH, weights=WeightsFrom.FEATURES)
NETWORK = ModelSettings(width=WIDTH, weights=WeightsFrom.NETWORK)
Change = Callable[[dict[str, Tensor]], object]


def pictures(side: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(side))


def forward(weights: InitialWeights, model: ModelSettings, x_BCHW: Tensor, part: str = "features") -> Tensor:
    """What a run's own network gives before the first step."""
    stem = planned_stem(model, filters=model.filters, channels=x_BCHW.shape[1], offered=weights.stem)
    trunk = initial_trunk(model, CLASSES, 1, weights).eval()
    f_BFHW = plain_features(stem, x_BCHW)
    with torch.no_grad():
        found: Tensor = trunk.features(f_BFHW) if part == "features" else trunk(f_BFHW)
    return found


def saved(network: nn.Module, folder: Path, change: Change = lambda _: None) -> Path:
    state = network.state_dict()
    change(state)
    path = folder / "vgg16.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("side", [32, 64, 224])
def test_the_first_forward_pass_is_torchvisions(tmp_path: Path, batch_norm: bool, side: int) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=batch_norm, width=WIDTH))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    x_BCHW = pictures(side)
    expected = theirs.features(x_BCHW).detach()
    assert expected.std() > 0.3
    torch.testing.assert_close(forward(weights, FEATURES, x_BCHW), expected, rtol=0, atol=1e-4)


def test_a_pth_file_of_full_width_gives_torchvisions_forward_pass(tmp_path: Path) -> None:
    """With a last layer of torchvision's names, which is left; the digest is the file's."""
    theirs = lived_in(TorchvisionVgg16(batch_norm=True))
    path = tmp_path / "vgg16_bn.pth"
    torch.save(
        {**theirs.state_dict(), "classifier.0.weight": torch.zeros(1), "classifier.6.bias": torch.zeros(1)}, path
    )
    weights = InitialWeights.from_file(path)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).digest()
    assert weights.ignored == ("classifier.0.weight", "classifier.6.bias")
    x_BCHW, model = pictures(32), ModelSettings(weights=WeightsFrom.FEATURES)
    expected = theirs.features(x_BCHW).detach()
    torch.testing.assert_close(forward(weights, model, x_BCHW), expected, rtol=0, atol=1e-4)


def test_sides_at_which_our_pools_are_torchvisions() -> None:
    """Ours round up: the two agree where five halvings leave nothing over, at multiples of 32."""
    ours = [one for one in build_trunk(ModelSettings(width=0.0625), 2, 1).modules() if isinstance(one, nn.MaxPool2d)]
    theirs = [one for one in TorchvisionVgg16(batch_norm=True, width=0.125).modules() if isinstance(one, nn.MaxPool2d)]
    equal = []
    for side in range(32, 225):
        x = torch.zeros(1, 1, side, side)
        if nn.Sequential(*ours)(x).shape == nn.Sequential(*theirs)(x).shape:
            equal.append(side)
    assert equal == [32, 64, 96, 128, 160, 192, 224]


def test_grey_pictures_are_coloured_ones_of_three_equal_channels(tmp_path: Path) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    x_B1HW = pictures(32, channels=1)
    expected = theirs.features(x_B1HW.expand(-1, 3, -1, -1)).detach()
    torch.testing.assert_close(forward(weights, FEATURES, x_B1HW), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("channels", "kernel"), [(1, 3), (3, 5), (4, 7)])
def test_other_channels_and_kernels_are_the_files(tmp_path: Path, channels: int, kernel: int) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=False, width=WIDTH, channels=channels, kernel=kernel))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    model = ModelSettings(width=WIDTH, kernel=kernel, weights=WeightsFrom.FEATURES)
    x_BCHW = pictures(32, channels)
    expected = theirs.features(x_BCHW).detach()
    torch.testing.assert_close(forward(weights, model, x_BCHW), expected, rtol=0, atol=1e-4)


def test_a_whole_network_answers_as_it_did(tmp_path: Path) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH, classes=CLASSES))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    x_BCHW = pictures(64)
    expected = theirs(x_BCHW).detach()
    torch.testing.assert_close(forward(weights, NETWORK, x_BCHW, "logits"), expected, rtol=0, atol=1e-4)


def test_features_alone_draw_the_last_layer_from_the_seed(tmp_path: Path) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH, classes=CLASSES))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    drawn = build_trunk(FEATURES, 5, seed=7).classifier[-1]
    last = initial_trunk(FEATURES, 5, 7, weights).classifier[-1]
    assert torch.equal(last.weight, drawn.weight) and torch.equal(last.bias, drawn.bias)


def test_without_a_file_weights_are_the_seeds() -> None:
    seeded = ModelSettings(width=WIDTH)
    assert state_sha256(initial_trunk(seeded, CLASSES, 5)) == state_sha256(build_trunk(seeded, CLASSES, 5))
    with pytest.raises(WeightsError, match='"features", and no weights_file'):
        initial_trunk(FEATURES, CLASSES, 5)


def test_a_step_in_training_mode_sees_no_bias_either(tmp_path: Path) -> None:
    """Statistics of the batch take any bias away: also in training the network with batch norms is torchvision's."""
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    x_BCHW = pictures(64)
    trunk = initial_trunk(FEATURES, CLASSES, 1, weights).train()
    with torch.no_grad():
        found, expected = trunk.features(plain_features(weights.stem, x_BCHW)), theirs.train().features(x_BCHW)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("wrap", "old"),
    [
        (lambda state: state, True),
        (lambda state: {"epoch": 3, "state_dict": state}, False),
        (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, False),
        (lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, False),
    ],
    ids=["before 2020", "state_dict", "model", "module"],
)
def test_state_dicts_as_training_programs_leave_them(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any], old: bool
) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH))
    path = tmp_path / "checkpoint.pth"
    torch.save(wrap(theirs.state_dict()), path, _use_new_zipfile_serialization=not old)
    plain = InitialWeights.from_file(saved(theirs, tmp_path))
    found = InitialWeights.from_file(path)
    assert found.stem.digest() == plain.stem.digest()
    assert found.convolutions.keys() == plain.convolutions.keys()
    assert all(torch.equal(found.convolutions[name], plain.convolutions[name]) for name in plain.convolutions)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("features.3.weight"), "has no features.3.weight; needs all tensors of torchvision's"),
        (lambda s: s.pop("features.0.bias"), "has no features.0.bias"),
        (lambda s: s.pop("features.41.running_var"), "has no features.41.running_var"),
        (lambda s: s.update({"features.99.weight": torch.ones(2)}), "has features.99.weight, which VGG-16 has not"),
        (
            lambda s: s.update({"features.7.weight": torch.ones(9, 8, 3, 3)}),
            r"features.8.weight has shape \(16,\)",
        ),
        (lambda s: s.update({"features.3.weight": torch.ones(8, 8, 5, 5)}), r"\(8, 8, 5, 5\); needs \(any, 8, 3, 3\)"),
        (lambda s: s.update({"features.1.bias": torch.ones(9)}), r"features.1.bias has shape \(9,\); needs \(8,\)"),
        (lambda s: s["features.10.weight"][0, 0].fill_(float("nan")), "features.10.weight holds NaN or infinity"),
        (lambda s: s["features.4.running_var"][2].fill_(-1.0), "features.4.running_var has values below 0"),
        (lambda s: s.update({"features.0.weight": torch.ones(8, 3, 2, 2)}), "features.0.weight: .*odd p"),
        (lambda s: s.update({"features.0.weight": torch.ones(8, 3, 3, 3).int()}), "is torch.int32; needs a dense"),
        (lambda s: s.update({"classifier.weight": torch.ones(3, 9)}), r"classifier.weight has shape \(3, 9\)"),
    ],
)
def test_a_file_of_another_network_is_refused_by_name(tmp_path: Path, change: Change, text: str) -> None:
    path = saved(lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH)), tmp_path, change)
    with pytest.raises(WeightsError) as caught:
        InitialWeights.from_file(path)
    assert re.search(text, str(caught.value)), caught.value


def test_a_trunk_without_its_first_layer_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_trunk(build_trunk(FEATURES, CLASSES, 1), path, {})
    with pytest.raises(WeightsError, match="a trunk without its first layer: take the file that a site was given"):
        InitialWeights.from_file(path)


MOST_BYTES = 4 * 1024 * 1024
"""Instead of a gibibyte, for a quick test."""


class Unwelcome:
    """Runs code where somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)


def deflated(path: Path) -> None:
    """A zip file of a few kilobytes that unpacks to megabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes(MOST_BYTES + 1))


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda path: None, "no file of weights at"),
        (lambda path: path.mkdir(), "can't be read"),
        (lambda path: path.write_bytes(b""), "neither safetensors nor"),
        (lambda path: path.write_bytes(b"noise" * 50), "neither safetensors nor an undamaged file"),
        (lambda path: path.write_bytes(bytes(8) + b"{" + bytes(50)), "no safetensors file, or damaged"),
        (lambda path: torch.save({"a": Unwelcome()}, path), "would be run as code: save the network's state_dict"),
        (lambda path: torch.save([torch.ones(3)], path), "holds no tensors by name"),
        (lambda path: torch.save({"features.0.weight": "text"}, path), "features.0.weight is str; needs a dense"),
        (lambda path: torch.save({"features.0.weight": torch.ones(1).expand(2**18, 3, 99, 99)}, path), "has shape"),
        (lambda path: path.open("wb").truncate(MOST_BYTES + 1), "at most 4,194,304 are read; needs a VGG-16's state"),
        (deflated, "unpacks to 4,194,305 bytes"),
    ],
    ids=["none", "folder", "empty", "noise", "header", "code", "list", "text", "huge", "sparse file", "bomb"],
)
def test_what_holds_no_tensors_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], object],
    text: str,
) -> None:
    monkeypatch.setattr("mple.model.initial_weights._MOST_BYTES", MOST_BYTES)
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(WeightsError, match=text):
        InitialWeights.from_file(path)
    assert "unpickled" not in capsys.readouterr().out


def test_damaged_pth_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"features.0.weight": torch.ones(8, 3, 3, 3)}, whole)
    content, path = whole.read_bytes(), tmp_path / "damaged.pth"
    for cut in range(0, len(content), 97):
        for damaged in (content[:cut], content[:cut] + b"\xff" * 20 + content[cut + 20 :]):
            path.write_bytes(damaged)
            with pytest.raises(WeightsError):
                InitialWeights.from_file(path)


@pytest.mark.parametrize(
    ("model", "classes", "text"),
    [
        (ModelSettings(width=0.25, weights=WeightsFrom.FEATURES), CLASSES, "set model.width = 0.125"),
        (NETWORK, 4, 'last layer has 3 classes, the run 4; set model.weights = "features"'),
        (ModelSettings(width=WIDTH), CLASSES, '"seed", and a weights_file'),
    ],
)
def test_a_network_that_does_not_fit_the_run_is_refused(
    tmp_path: Path, model: ModelSettings, classes: int, text: str
) -> None:
    theirs = lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH, classes=CLASSES))
    weights = InitialWeights.from_file(saved(theirs, tmp_path))
    with pytest.raises(WeightsError, match=text):
        initial_trunk(model, classes, 1, weights)


def test_a_last_layer_must_be_there_to_be_taken(tmp_path: Path) -> None:
    weights = InitialWeights.from_file(saved(lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH)), tmp_path))
    with pytest.raises(WeightsError, match=r"no last layer classifier.weight .* set model.weights = .features"):
        initial_trunk(NETWORK, CLASSES, 1, weights)


def test_no_width_fits_a_network_of_uneven_channels(tmp_path: Path) -> None:
    def wider(state: dict[str, Tensor]) -> None:
        state["features.40.weight"] = torch.ones(65, 64, 3, 3)
        state["features.40.bias"] = torch.zeros(65)
        state |= {f"features.41.{what}": torch.ones(65) for what in ("weight", "bias", "running_mean", "running_var")}

    path = saved(lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH)), tmp_path, wider)
    with pytest.raises(WeightsError, match=r"no model\.width gives such a network"):
        initial_trunk(FEATURES, CLASSES, 1, InitialWeights.from_file(path))
