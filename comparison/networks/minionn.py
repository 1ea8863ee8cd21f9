"""MiniONN's network for CIFAR-10 and its training: the network that protocols of private inference are measured on.

Liu, Juuti, Lu, Asokan, "Oblivious Neural Network Predictions via MiniONN Transformations" (CCS 2017), figure 13; also
the benchmark of GAZELLE and Delphi. Seven convolutions with a ReLU behind each, mean pools behind the second and the
fourth, one dense layer: 61.1 million multiplications, 173,056 ReLUs. Batch norms stand between convolution and ReLU in
training only; `comparison.networks.folding` folds them away, which leaves exactly the published layers.

Legend: N pictures, B batch, H W size, K classes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mple.data import Dataset, LabelledImages
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings

SIDE_PX, CHANNELS = 32, 3
CONVOLUTIONS = (
    # inputs, outputs, kernel side, mean pool behind it
    (3, 64, 3, False),
    (64, 64, 3, True),
    (64, 64, 3, False),
    (64, 64, 3, True),
    (64, 64, 3, False),
    (64, 64, 1, False),
    (64, 16, 1, False),
)
DENSE_INPUTS = 1024
"""16 channels of 8 x 8."""
NORMALISATION = NormalisationSettings(mean=(0.5,), std=(0.25,))
_SHIFT_PX = 3
_WEIGHT_DECAY = 5e-4
_WARMUP_SHARE = 0.25
_SCORED_AT_ONCE = 500


class Minionn(nn.Module):
    """The network in floating point, with batch norms."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes = {classes}; needs 2 or more")
        self.classes = classes
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False) for inputs, outputs, side, _ in CONVOLUTIONS
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs, _, _ in CONVOLUTIONS)
        self.dense = nn.Linear(DENSE_INPUTS, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores (B, K) of normalised pictures (B, 3, 32, 32)."""
        for convolution, norm, (_, _, _, pooled) in zip(self.convolutions, self.norms, CONVOLUTIONS, strict=True):
            x_BCHW = functional.relu(norm(convolution(x_BCHW)), inplace=True)
            if pooled:
                x_BCHW = functional.avg_pool2d(x_BCHW, 2)
        scores_BK: Tensor = self.dense(x_BCHW.flatten(1))
        return scores_BK


@dataclass(frozen=True, kw_only=True, slots=True)
class MinionnEpoch:
    """One epoch's figures."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean over the epoch's steps, in nats."""
    test_accuracy: float | None
    """None where there are no test pictures."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MinionnOutcome:
    """A training's end."""

    epochs: tuple[MinionnEpoch, ...]
    seconds: float
    network: Minionn


def train_minionn(
    dataset: Dataset,
    *,
    epochs: int = 12,
    batch: int = 128,
    peak_lr: float = 0.1,
    seed: int = 1,
    bf16: bool = True,
    on_epoch: Callable[[MinionnEpoch], None] = lambda _epoch: None,
) -> MinionnOutcome:
    """Train by stochastic gradient descent with a one-cycle learning rate on mirrored and shifted pictures.

    Args:
        dataset: Pictures of 3 x 32 x 32.
        epochs: 1 or more. Twelve took 15 minutes of one core with bf16 and reached 86.8 % on CIFAR-10.
        batch: Pictures of a step, 2 or more.
        peak_lr: Highest learning rate.
        seed: Of first weights, order, mirroring and shifts.
        bf16: Compute in bfloat16 where that is safe; weights are float32 always.
        on_epoch: Called after each epoch.

    Raises ValueError: pictures of another shape, or fewer than one batch; a number out of its range;
    FloatingPointError: the loss is NaN or infinite.
    """
    shape = dataset.train.shape
    if (shape.channels, shape.height, shape.width) != (CHANNELS, SIDE_PX, SIDE_PX):
        raise ValueError(f"{dataset.name}: pictures are {shape}; MiniONN's network takes 3 channels of 32 x 32 pixels")
    if epochs < 1 or not 2 <= batch <= len(dataset.train):
        raise ValueError(
            f"epochs = {epochs}, batch = {batch}; allowed are 1 and more, 2 to {len(dataset.train)} (all pictures)"
        )
    run = _Training(dataset, epochs=epochs, batch=batch, peak_lr=peak_lr, seed=seed, bf16=bf16)
    began = time.monotonic()
    figures = []
    for epoch in range(epochs):
        figures.append(run.epoch(epoch))
        on_epoch(figures[-1])
    return MinionnOutcome(epochs=tuple(figures), seconds=time.monotonic() - began, network=run.network)


class _Training:
    def __init__(self, dataset: Dataset, *, epochs: int, batch: int, peak_lr: float, seed: int, bf16: bool) -> None:
        self._train, self._test = dataset.train, dataset.test
        self._batch, self._seed, self._bf16 = batch, seed, bf16
        self.network = _first_weights(Minionn(len(dataset.classes)), seed)
        matrices = [weight for weight in self.network.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.network.parameters() if weight.ndim <= 1]
        self._optimiser = torch.optim.SGD(
            [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}],
            lr=peak_lr,
            momentum=0.9,
            nesterov=True,
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            max_lr=peak_lr,
            total_steps=max(8, epochs * (len(self._train) // batch)),
            pct_start=_WARMUP_SHARE,
            cycle_momentum=False,
        )

    def epoch(self, epoch: int) -> MinionnEpoch:
        began = time.monotonic()
        random = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        order = random.permutation(len(self._train))
        steps = len(order) // self._batch  # what is left over comes at another place in the next epoch's order
        losses = [self._step(order[i * self._batch : (i + 1) * self._batch], random) for i in range(steps)]
        return MinionnEpoch(
            epoch=epoch + 1,
            loss=float(np.mean(losses)),
            test_accuracy=accuracy(self.network, self._test, bf16=self._bf16) if len(self._test) else None,
            seconds=time.monotonic() - began,
        )

    def _step(self, numbers: NDArray[np.int64], random: np.random.Generator) -> float:
        pixels_BCHW = varied(self._train.pixels_NCHW[numbers], random)
        labels_B = torch.from_numpy(self._train.labels[numbers])
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            x_BCHW = torch.from_numpy(normalise(pixels_BCHW, NORMALISATION))
            logits_BK = self.network(x_BCHW.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits_BK.float(), labels_B)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FloatingPointError(f"the loss is {value}; lower peak_lr")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._schedule.step()
        return value


@torch.no_grad()
def accuracy(network: Minionn, images: LabelledImages, *, bf16: bool = False) -> float:
    """Share of pictures whose highest score is that of their class. Raises ValueError: there are no pictures."""
    if not len(images):
        raise ValueError("no pictures to score")
    network.eval()
    correct = 0
    for low in range(0, len(images), _SCORED_AT_ONCE):
        rows = slice(low, low + _SCORED_AT_ONCE)
        x_BCHW = torch.from_numpy(normalise(images.pixels_NCHW[rows], NORMALISATION))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits_BK = network(x_BCHW.contiguous(memory_format=torch.channels_last))
        correct += int((logits_BK.argmax(1).numpy() == images.labels[rows]).sum())
    return correct / len(images)


def varied(pixels_BCHW: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture mirrored or not and moved by up to 3 pixels along both axes, mid grey moving in."""
    batch, _, height, width = pixels_BCHW.shape
    around = ((0, 0), (0, 0), (_SHIFT_PX, _SHIFT_PX), (_SHIFT_PX, _SHIFT_PX))
    padded = np.pad(pixels_BCHW, around, constant_values=128)
    rows_BH = random.integers(0, 2 * _SHIFT_PX + 1, size=(batch, 1)) + np.arange(height)
    columns_BW = random.integers(0, 2 * _SHIFT_PX + 1, size=(batch, 1)) + np.arange(width)
    mirrored_B = random.random(batch) < 0.5
    columns_BW[mirrored_B] = columns_BW[mirrored_B, ::-1]
    moved_BHWC = padded[np.arange(batch)[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    return np.ascontiguousarray(moved_BHWC.transpose(0, 3, 1, 2))


def _first_weights(network: Minionn, seed: int) -> Minionn:
    """Drawn from a seed of their own (He et al., 2015), apart from torch's global random state."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
