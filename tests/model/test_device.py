"""Devices by name, and that a whole training asks the device for what differs between them."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from compute_node.training.features import features
from mple.model.device import CPU, Device
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import DeviceName, ModelSettings, Precision, TrainingSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import Arithmetic, Cores, ImageShape, MorphScheme
from mple.plan import ComputeSettings, SettingsError, settings_from
from tests.support.morph_cases import images, layer, morpher, stem, tiled, unrolled

META = Device(torch.device("meta"))
"""A device whose tensors have shapes and no numbers, and that no tensor in main memory goes together with."""


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has none for `meta`."""
    monkeypatch.setattr(Device, "autocast", lambda _device, _dtype: nullcontext())


def test_every_name_is_a_device() -> None:
    assert {name: Device.named(name) for name in DeviceName} == dict.fromkeys(DeviceName, CPU)


def test_a_device_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    raw = {"state": "s", "tls": "t", "listen": "l:1", "coordinator": "c:1", "device": "cuda"}
    with pytest.raises(SettingsError, match=r"device.*cuda.*auto.*cpu"):
        settings_from(ComputeSettings, raw)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_step_computes_in_the_precision_of_the_run(precision: Precision) -> None:
    trainer = TrunkTrainer(
        build_trunk(ModelSettings(width=0.0625), 3, 1), TrainingSettings(precision=precision), 10, CPU
    )
    with trainer.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision is Precision.BF16 else torch.float32)


def test_weights_and_labels_are_brought_to_the_device(no_autocast: None) -> None:
    """What is left in main memory would make the step fail before the loss is asked for."""
    trunk = build_trunk(ModelSettings(width=0.0625), 3, 1)
    trainer = TrunkTrainer(trunk, TrainingSettings(), 10, META)
    assert {weight.device.type for weight in trainer.trunk.parameters()} == {"meta"}
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called"):
        trainer.step(torch.ones(4, 8, 28, 28, device="meta"), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", [tiled(Cores.IDENTICAL), tiled(Cores.DISTINCT), unrolled(Cores.DISTINCT)])
def test_features_are_made_on_the_device_of_the_layers(
    scheme: MorphScheme, arithmetic: Arithmetic, no_autocast: None
) -> None:
    shape = ImageShape(channels=1, height=15, width=16)
    raw = layer(scheme, shape, stem(4, 1, 3))
    t_BKQ = torch.from_numpy(morpher(scheme, shape).morph(images(shape, 5)))
    layers = {number: prepare_layer(raw, arithmetic, META) for number in range(2)}
    for keys_B in (np.zeros(5, np.int64), np.array([1, 0, 1, 1, 0])):
        f_BFHW = features(t_BKQ, keys_B, layers)
        assert (f_BFHW.device.type, tuple(f_BFHW.shape)) == ("meta", (5, 4, 15, 16))
