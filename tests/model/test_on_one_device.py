"""A whole step where the device is not main memory, and the forms that such a device has, beside the packed ones.

`meta` stands for a device here: its tensors have shapes and no numbers. A witness of every operation refuses one that
takes tensors of both, which CUDA refuses too; copies are free to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compute_node.training.features import features
from mple.model.class_weights import ClassCounts
from mple.model.device import CPU, Device
from mple.model.first_layer.plain import plain_features
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.model.loss import TaskLoss
from mple.model.settings import (
    Augment,
    ClassWeights,
    ModelSettings,
    OptimiserName,
    Precision,
    TaskKind,
    TaskSettings,
    TrainingSettings,
)
from mple.model.stem import Stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import Arithmetic, Cores, ImageShape, MorphScheme
from tests.support.morph_cases import images, layer, morpher, stem, tiled, unrolled

META = Device(torch.device("meta"), multiplies_bytes=True)
AS_ELSEWHERE = Device(torch.device("cpu"), multiplies_bytes=True)
"""The processor with all that another device has, and nothing that it has not."""
SHAPE = ImageShape(channels=1, height=28, width=28)
FILTERS = 8
SCHEMES = [tiled(Cores.IDENTICAL), tiled(Cores.DISTINCT), unrolled(Cores.DISTINCT)]
ROOT = Path(__file__).parents[2]


class OneDevice(TorchDispatchMode):
    """Refuses operations over two devices. What asks for a number of `meta` is answered: 1, or true."""

    def __torch_dispatch__(
        self, func: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.ndim}
        if name not in ("_to_copy", "copy_") and len(devices) > 1:
            raise AssertionError(f"{name} of tensors on {sorted(devices)}")
        if "meta" in devices | {tensor.device.type for tensor in tensors}:
            if name == "_local_scalar_dense":
                return 1.0
            if name == "_to_copy" and kwargs.get("device") == torch.device("cpu"):
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has none for `meta`."""
    monkeypatch.setattr(Device, "autocast", lambda _device, _dtype: nullcontext())


def trainer(device: Device, settings: TrainingSettings, task: TaskSettings | None = None) -> TrunkTrainer:
    task = task or TaskSettings()
    counts = ClassCounts(having=(3, 2, 1), known=(4, 4, 4))
    loss = TaskLoss.of(task, counts if task.class_weights is not ClassWeights.NONE else None, device)
    order = np.array([1, 0, *range(2, FILTERS)])
    return TrunkTrainer(build_trunk(ModelSettings(width=0.0625), 3, 1), settings, 10, device, loss, order)


def layers(scheme: MorphScheme, arithmetic: Arithmetic, device: Device) -> Mapping[int, PreparedLayer]:
    raw = layer(scheme, SHAPE, stem(FILTERS, 1, 3))
    return {number: prepare_layer(raw, arithmetic, device) for number in range(2)}


def blocks(scheme: MorphScheme, samples: int) -> Tensor:
    return torch.from_numpy(morpher(scheme, SHAPE).morph(images(SHAPE, samples) * 4 - 2))


MIXED_KEYS: NDArray[np.int64] = np.array([1, 0, 1, 1, 0, 0])
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_take_nothing_from_main_memory(scheme: MorphScheme, arithmetic: Arithmetic, no_autocast: None) -> None:
    here, there = blocks(scheme, 6), META.place(blocks(scheme, 6))
    with OneDevice():
        made = layers(scheme, arithmetic, META)
        for t_BKQ in (here, there):  # from a call of predictions, and as the reader ahead sends them
            assert features(t_BKQ, MIXED_KEYS, made).device.type == "meta"
            assert features(t_BKQ, np.zeros(6, np.int64), made).device.type == "meta"
        assert plain_features(Stem(stem(FILTERS, 1, 3)), META.place(torch.zeros(2, 1, 28, 28))).device.type == "meta"


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("optimiser", list(OptimiserName))
@pytest.mark.parametrize(
    "task",
    [
        TaskSettings(),
        TaskSettings(class_weights=ClassWeights.INVERSE),
        TaskSettings(kind=TaskKind.LABELS, class_weights=ClassWeights.EFFECTIVE),
    ],
)
def test_a_step_takes_nothing_from_main_memory(optimiser: OptimiserName, task: TaskSettings, no_autocast: None) -> None:
    """Two steps, a state that goes into another trainer, a step of that, and answers."""
    settings = TrainingSettings(optimiser=optimiser, augment=tuple(Augment), label_smoothing=0.1)
    labels = LABELS if task.kind is TaskKind.CLASSES else torch.tensor([[0, 1, -1]] * 6)
    f_BFHW = torch.empty(6, FILTERS, 28, 28, device="meta").contiguous(memory_format=torch.channels_last)
    with OneDevice():
        first = trainer(META, settings, task)
        for _ in range(2):
            assert first.step(f_BFHW, labels) == 1.0
        second = trainer(META, settings, task)
        second.restore({name: tensor.to("cpu") for name, tensor in first.state().items()}, 2)
        second.step(f_BFHW, labels)
        assert first.logits(f_BFHW).device.type == "cpu"
        first.require_finite()


def test_the_witness_tells_what_would_go_wrong(no_autocast: None) -> None:
    with OneDevice(), pytest.raises(AssertionError, match=r"index.* of tensors on \['cpu', 'meta'\]"):
        torch.zeros(3, device="meta")[torch.tensor([0])]


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_training_with_the_forms_of_another_device_is_that_with_the_packed_ones(
    scheme: MorphScheme, arithmetic: Arithmetic
) -> None:
    """Losses of three steps; features differ by their rounding alone, see `mple.model.first_layer.prepared`."""
    precision = Precision.F32 if arithmetic is Arithmetic.F32 else Precision.BF16
    settings = TrainingSettings(precision=precision, layer_arithmetic=arithmetic, augment=tuple(Augment))
    t_BKQ, found = blocks(scheme, 6), {}
    for device in (CPU, AS_ELSEWHERE):
        one, made = trainer(device, settings), layers(scheme, arithmetic, device)
        sent = device.send(t_BKQ, LABELS)
        losses = []
        for _ in range(3):
            with torch.no_grad(), one.autocast():
                f_BFHW = features(sent.received()[0], MIXED_KEYS, made)
            losses.append(one.step(f_BFHW, sent.received()[1]))
        found[device] = losses
    np.testing.assert_allclose(found[AS_ELSEWHERE], found[CPU], rtol=1e-5 if precision is Precision.F32 else 0.05)


FORBIDDEN = re.compile(
    r"torch\.cuda|\.cuda\(|torch\.autocast\(|pin_memory|non_blocking|cudnn|use_deterministic|[\"']cuda|torch\.amp\b"
)


def test_nobody_else_knows_cuda() -> None:
    """One place holds all that differs between devices; the name that a configuration gives is the settings'."""
    places = {"mple/model/device.py", "mple/model/settings.py"}
    for folder in ("mple", "compute_node", "coordinator", "provider_node"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            found = FORBIDDEN.search(path.read_text(encoding="utf-8"))
            assert found is None or name in places, f"{name}: {found and found.group()}"
