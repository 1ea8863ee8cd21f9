"""The plain alternative: one process that trains the same network in the same order on the pictures themselves.

Same stem, same trunk and first weights, same order of samples, same steps as a morphed run of the same settings. Given
the run's channel order and label order as well, it does the very same arithmetic, so that losses can be compared step
by step; those orders are secrets of the sites, hence that is for checking simulations only.

Legend: N images of all sites in the plan's order of sites, B samples of a step.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mple.data import Dataset, LabelledImages
from mple.data.normalise import normalise
from mple.metrics import Outputs, merged, tallies, values
from mple.model.class_weights import ClassCounts
from mple.model.device import CPU, Device
from mple.model.first_layer.plain import plain_features
from mple.model.initial_weights import InitialWeights, initial_trunk
from mple.model.loss import TaskLoss
from mple.model.settings import Augment
from mple.model.stem import Stem, mirrored_channels, planned_stem
from mple.model.training import TrunkTrainer
from mple.model.weights import state_sha256
from mple.plan import GlobalSampler, RunChoices
from mple.plan.fit import check_task
from mple.wire.label_form import permuted_labels, plain_labels

_SCORED_AT_ONCE = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainSettings:
    """What decides a plain training."""

    choices: RunChoices
    """As of the morphed run; what concerns keys, wire and absence changes nothing here."""
    device: Device = CPU
    stem: Stem | None = None
    """The one that was offered; by default that of `weights` or drawn from `model.stem_seed`."""
    weights: InitialWeights | None = None
    """Those with which training begins; by default drawn from the seed."""
    channel_order: NDArray[np.int64] | None = None
    """Of a morphed run to compare with; by default the stem's own."""
    label_order: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainEpoch:
    """One epoch's figures."""

    epoch: int
    """Counted from 1."""
    loss: float
    scores: dict[str, float]
    """By metric; empty without test images."""
    seconds: float
    losses: tuple[float, ...]
    """Of every step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainOutcome:
    """A plain training's end."""

    epochs: tuple[PlainEpoch, ...]
    train_seconds: float
    trunk: nn.Module
    model_sha256: str


def train_plain(
    sites: Sequence[Dataset], settings: PlainSettings, on_epoch: Callable[[PlainEpoch], None] = lambda _epoch: None
) -> PlainOutcome:
    """Train on the plain pictures of sites in the plan's order, all of one shape and one class list.

    `on_epoch` is called after each epoch.

    Raises ValueError: there is no site, the sites' classes or shapes differ, their data are for another task, or first
    weights of a file don't fit.
    """
    if len({(site.classes, site.train.shape, site.task) for site in sites}) != 1:
        raise ValueError(f"{len(sites)} sites with different classes, tasks or image shapes; they must agree")
    check_task(sites[0].task, settings.choices)
    run = _PlainRun(sites, settings)
    began = time.monotonic()
    epochs = []
    for epoch in range(settings.choices.training.epochs):
        epochs.append(run.epoch(epoch))
        on_epoch(epochs[-1])
    return PlainOutcome(
        epochs=tuple(epochs),
        train_seconds=time.monotonic() - began,
        trunk=run.trainer.trunk,
        model_sha256=state_sha256(run.trainer.trunk),
    )


class _PlainRun:
    def __init__(self, sites: Sequence[Dataset], settings: PlainSettings) -> None:
        choices = settings.choices
        model, training, normalisation = choices.model, choices.training, choices.normalisation
        classes = len(sites[0].classes)
        self._outputs = Outputs(classes, sites[0].task)
        label_order = np.arange(classes) if settings.label_order is None else settings.label_order

        def as_sent(images: Iterable[LabelledImages]) -> torch.Tensor:
            labels = np.concatenate([one.labels for one in images])
            return torch.from_numpy(plain_labels(permuted_labels(labels, label_order)))

        self._train_NCHW = np.concatenate([site.train.pixels_NCHW for site in sites])
        self._test_NCHW = np.concatenate([site.test.pixels_NCHW for site in sites])
        self._train_N = as_sent(site.train for site in sites)
        self._test_N = as_sent(site.test for site in sites)
        self._normalisation = normalisation
        self._sampler = GlobalSampler([len(site.train.labels) for site in sites], training.batch, training.seed)
        trunk = initial_trunk(model, classes, training.seed, settings.weights)
        offered = settings.stem if settings.weights is None else settings.weights.stem
        channels, filters = sites[0].train.shape.channels, model.filters
        stem = planned_stem(model, filters=filters, channels=channels, offered=offered)
        order = np.arange(filters) if settings.channel_order is None else settings.channel_order
        self._stem = Stem(stem.kernels_FCpp[order])
        self._device = settings.device
        mirrored = mirrored_channels(stem, order) if Augment.MIRROR in training.augment else None
        steps = self._sampler.steps_per_epoch * training.epochs
        loss = TaskLoss.of(choices.task, ClassCounts.of(self._train_N.numpy(), classes), self._device)
        self.trainer = TrunkTrainer(trunk, training, steps, self._device, loss, mirrored)

    def epoch(self, epoch: int) -> PlainEpoch:
        began = time.monotonic()
        losses, weights = [], []
        for step in range(self._sampler.steps_per_epoch):
            numbers = self._sampler.step(epoch, step)
            losses.append(self.trainer.step(self._features(self._train_NCHW[numbers]), self._train_N[numbers]))
            weights.append(len(numbers))
        return PlainEpoch(
            epoch=epoch + 1,
            loss=float(np.average(losses, weights=weights)),
            scores=self._scores(),
            seconds=time.monotonic() - began,
            losses=tuple(losses),
        )

    def _scores(self) -> dict[str, float]:
        made = []
        for low in range(0, len(self._test_N), _SCORED_AT_ONCE):
            rows = slice(low, low + _SCORED_AT_ONCE)
            logits_BC = self.trainer.logits(self._features(self._test_NCHW[rows]))
            made.append(tallies(logits_BC.numpy().astype(np.float64), self._test_N[rows].numpy(), self._outputs))
        return values(merged(made), self._outputs)

    def _features(self, pixels_BCHW: NDArray[np.uint8]) -> torch.Tensor:
        with torch.no_grad(), self.trainer.autocast():
            x_BCHW = self._device.place(torch.from_numpy(normalise(pixels_BCHW, self._normalisation)))
            return plain_features(self._stem, x_BCHW)
