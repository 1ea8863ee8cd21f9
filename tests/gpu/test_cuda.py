"""What only a CUDA device can show: `make test-gpu` on a machine that has one. The same code runs on the processor in
`tests/model/test_on_one_device.py`.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from compute_node.training.features import features
from mple.cli import main
from mple.model.device import CPU, Device, HostCopies
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import Augment, DeviceName, ModelSettings, Precision, TrainingSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk, state_sha256
from mple.morph import Arithmetic, Cores, ImageShape, MorphScheme
from tests.support.morph_cases import images, layer, morpher, stem, tiled, unrolled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device: make test-gpu where one is"),
]
SHAPE = ImageShape(channels=3, height=32, width=32)
SAMPLES, FILTERS = 96, 16
SCHEMES = [tiled(Cores.IDENTICAL), tiled(Cores.DISTINCT), unrolled(Cores.DISTINCT)]
BOUNDS = {Arithmetic.F32: 1e-5, Arithmetic.BF16: 6e-3, Arithmetic.INT8: 6e-3}
"""Root mean square of the difference from the processor's features over that of the features."""
KEYS: NDArray[np.int64] = np.arange(SAMPLES) % 3
LABELS = torch.from_numpy(np.arange(SAMPLES) % 10)


@pytest.fixture(scope="module")
def cuda() -> Iterator[Device]:
    yield Device.named(DeviceName.CUDA, 0)
    torch.use_deterministic_algorithms(False)


def blocks(scheme: MorphScheme) -> Tensor:
    return torch.from_numpy(morpher(scheme, SHAPE).morph(images(SHAPE, SAMPLES) * 4 - 2))


def settings(arithmetic: Arithmetic) -> TrainingSettings:
    precision = Precision.F32 if arithmetic is Arithmetic.F32 else Precision.BF16
    return TrainingSettings(precision=precision, layer_arithmetic=arithmetic, augment=tuple(Augment))


class Training:
    """Three sites' samples under three layers, one step after another."""

    def __init__(self, device: Device, scheme: MorphScheme, arithmetic: Arithmetic, *, dropout: float = 0.0) -> None:
        raw = layer(scheme, SHAPE, stem(FILTERS, SHAPE.channels, 3))
        self.layers = {number: prepare_layer(raw, arithmetic, device) for number in range(3)}
        order = np.array([1, 0, *range(2, FILTERS)])
        trunk = build_trunk(ModelSettings(width=0.25, dropout=dropout), 10, 1)
        self.trainer = TrunkTrainer(trunk, settings(arithmetic), 20, device, mirrored_channels=order)
        self.t_BKQ = blocks(scheme)

    def features(self) -> Tensor:
        (t_BKQ,) = self.trainer.device.send(self.t_BKQ).received()
        with torch.no_grad(), self.trainer.autocast():
            return features(t_BKQ, KEYS, self.layers)

    def steps(self, count: int) -> list[float]:
        return [self.trainer.step(self.features(), LABELS) for _ in range(count)]


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_and_losses_are_the_processors_within_rounding(
    scheme: MorphScheme, arithmetic: Arithmetic, cuda: Device
) -> None:
    there, here = Training(cuda, scheme, arithmetic), Training(CPU, scheme, arithmetic)
    found, expected = there.features().cpu().double(), here.features().double()
    assert float((found - expected).norm() / expected.norm()) <= BOUNDS[arithmetic]
    tolerance = 1e-3 if arithmetic is Arithmetic.F32 else 0.05
    np.testing.assert_allclose(there.steps(3), here.steps(3), rtol=tolerance)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_training_repeats_bit_for_bit_also_when_it_is_resumed(
    scheme: MorphScheme, arithmetic: Arithmetic, cuda: Device
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*deterministic.*")  # torch says which kernel is not
        whole = Training(cuda, scheme, arithmetic, dropout=0.5)
        losses = whole.steps(4)
        first, second = (Training(cuda, scheme, arithmetic, dropout=0.5) for _ in range(2))
        found = first.steps(2)
        kept = HostCopies(first.trainer.state())
        first.steps(1)  # what comes later does not reach the copies
        second.trainer.restore(kept.wait(), 2)
        assert [*found, *second.steps(2)] == losses
    assert state_sha256(second.trainer.trunk) == state_sha256(whole.trainer.trunk)


def test_samples_that_come_while_the_device_computes_are_whole(cuda: Device) -> None:
    """One thread sends, another uses; memory of what was used goes back to the sender meanwhile."""
    coming = [torch.full((512, 1024), float(number)) for number in range(40)]
    slow = torch.rand(2048, 2048, device="cuda:0")
    ready, taken = threading.Semaphore(0), threading.Semaphore(2)
    sent = []

    def send() -> None:
        for tensor in coming:
            taken.acquire()
            sent.append(cuda.send(tensor))
            ready.release()

    sender = threading.Thread(target=send)
    sender.start()
    sums = []
    for number in range(len(coming)):
        ready.acquire()
        (tensor,) = sent[number].received()
        slow = slow @ slow
        slow /= slow.norm()
        sums.append(tensor.double().mean())
        sent[number] = None  # type: ignore[call-overload]
        del tensor
        taken.release()
    sender.join()
    assert [float(value) for value in sums] == [float(number) for number in range(len(coming))]


def test_ranks_on_such_devices_add_up_by_nccl(cuda: Device, tmp_path: Path) -> None:
    assert cuda.backend == "nccl"
    cuda.enter_thread()
    torch.distributed.init_process_group(cuda.backend, init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        value = torch.ones(3, device=cuda.torch_device)
        torch.distributed.all_reduce(value)
        assert value.tolist() == [1, 1, 1]
    finally:
        torch.distributed.destroy_process_group()


def test_its_memory_is_told(cuda: Device) -> None:
    memory = cuda.memory()
    assert memory is not None and 0 < memory.free <= memory.total


def test_a_whole_run_trains_there_and_repeats(tmp_path: Path) -> None:
    """Three processes and their compute node on CUDA, twice."""
    options = ["data.most_train=150", "data.most_test=50", "model.width=0.125", "training.epochs=1"]
    options += ['machine.device="cuda"', 'sites=["north","south"]']
    sets = [word for option in options for word in ("--set", option)]
    assert main(["simulate", "--plain", *sets, "--out", str(tmp_path / "first")]) == 0
    assert main(["simulate", "--plain", "--repeat", str(tmp_path / "first"), "--out", str(tmp_path / "second")]) == 0
    first, second = (
        json.loads((tmp_path / name / "summary.json").read_text())["model_sha256"] for name in ("first", "second")
    )
    assert first == second
