"""Devices by name, and that a whole training asks the device for what differs between them."""

from __future__ import annotations

import os
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from compute_node.training.features import features
from mple.model.device import CPU, Device, DeviceError, HostCopies, _prefer_deterministic
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


def found(count: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Have torch find so many CUDA devices; what the process then asks of them is in the answer."""
    asked: dict[str, object] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(device=device))
    monkeypatch.setattr("mple.model.device._prefer_deterministic", lambda: asked.update(deterministic=True))
    return asked


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    found(0, monkeypatch)
    assert Device.named(DeviceName.AUTO) == Device.named(DeviceName.CPU) == CPU
    asked = found(2, monkeypatch)
    assert Device.named(DeviceName.CPU) == CPU and not asked
    for name in (DeviceName.AUTO, DeviceName.CUDA):
        device = Device.named(name)
        assert (str(device.torch_device), device.packs, device.multiplies_bytes) == ("cuda:0", False, True)
        assert (device.backend, CPU.backend) == ("nccl", "gloo")
        assert asked == {"device": 0, "deterministic": True}


def test_each_process_of_a_machine_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = found(2, monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(Device.named(DeviceName.AUTO).torch_device) == "cuda:1" and asked["device"] == 1
    assert str(Device.named(DeviceName.CUDA, 0).torch_device) == "cuda:0"
    with pytest.raises(DeviceError, match=r"process 2 of this machine .* there are 2; start .*nproc-per-node=2"):
        Device.named(DeviceName.AUTO, 2)


@pytest.mark.parametrize(
    ("built_for", "text"),
    [(None, "built without CUDA; install a build with CUDA"), ("12.8", "finds no CUDA device; nvidia-smi")],
)
def test_a_device_that_is_not_there_is_refused_with_the_way_out(
    built_for: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(0, monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(DeviceError, match=f'device = "cuda", but .*{text}.*, or set device = "cpu"'):
        Device.named(DeviceName.CUDA)


def test_another_device_is_refused_with_those_that_there_are() -> None:
    raw = {"state": "s", "tls": "t", "listen": "l:1", "coordinator": "c:1", "device": "tpu"}
    with pytest.raises(SettingsError, match=r"device.*tpu.*auto.*cpu.*cuda"):
        settings_from(ComputeSettings, raw)


def test_kernels_are_deterministic_and_sums_exact_where_torch_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    wanted = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
        (cudnn, "allow_tf32", False),
        (products, "allow_tf32", False),
        (products, "allow_bf16_reduced_precision_reduction", False),
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
    ]
    before = [getattr(where, name) for where, name, _ in wanted]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        for where, name, value in wanted:
            setattr(where, name, not value)
        _prefer_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert [getattr(where, name) for where, name, _ in wanted] == [value for *_, value in wanted]
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:  # they are the process's
        torch.use_deterministic_algorithms(False)
        for (where, name, _), value in zip(wanted, before, strict=True):
            setattr(where, name, value)


def test_nothing_is_copied_on_the_processor_but_what_is_to_be_kept() -> None:
    tensor = torch.arange(3.0)
    assert CPU.send(tensor).received()[0] is CPU.place(tensor) is tensor
    kept = HostCopies({"a": tensor})
    tensor.add_(1)
    assert kept.wait()["a"].tolist() == [0, 1, 2]
    assert CPU.memory() is None
    CPU.require_precision(Precision.BF16)
    CPU.enter_thread()


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
