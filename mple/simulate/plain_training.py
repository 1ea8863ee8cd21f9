"""The plain alternative: one process that trains the same network in the same order on the pictures themselves.

Same stem, same trunk and first weights, same order of samples, same steps as a morphed run of the same settings. Given
the run's channel order and label order as well, it does the very same arithmetic, so that losses can be compared step
by step; those orders are secrets of the sites, hence that is for checking simulations only.

Legend: N images of all sites in the plan's order of sites, B samples of a step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mple.data import Dataset, LabelledImages
from mple.data.normalise import normalise
from mple.metrics import Outputs, Tally, merged, tallies, thresholds, values
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
from mple.plan.keeping import Judged, keep_rule
from mple.wire.label_form import permuted_labels, plain_labels

_SCORED_AT_ONCE = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainSettings:
    """What decides a plain training."""

    choices: RunChoices
    """As of the morphed run; what concerns keys, wire and absence changes nothing here."""
    device: Device = CPU
    stem: Stem | None = None
    """The one that was offered; by default that of `weights`, else as `model.stem` says."""
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
    """Of validation, by metric; empty without such images."""
    seconds: float
    losses: tuple[float, ...]
    """Of every step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainOutcome:
    """A plain training's end."""

    epochs: tuple[PlainEpoch, ...]
    """Fewer than planned after an early end."""
    kept_epoch: int
    """The one whose network was kept, counted from 1."""
    val_scores: dict[str, float]
    test_scores: dict[str, float]
    """Of that network, by metric; empty without such images."""
    train_seconds: float
    trunk: nn.Module
    model_sha256: str


def train_plain(
    sites: Sequence[Dataset], settings: PlainSettings, on_epoch: Callable[[PlainEpoch], None] = lambda _epoch: None
) -> PlainOutcome:
    """Train on the plain pictures of sites in the plan's order, all of one shape and one class list.

    `on_epoch` is called after each epoch. Which epoch's network is kept, and whether training ends early, is decided as
    in a morphed run.

    Raises ValueError: there is no site, the sites' classes or shapes differ, their data are for another task, first
    weights of a file don't fit, or the choices need validation images and there are none.
    """
    if len({(site.classes, site.train.shape, site.task) for site in sites}) != 1:
        raise ValueError(f"{len(sites)} sites with different classes, tasks or image shapes; they must agree")
    check_task(sites[0].task, settings.choices)
    training = settings.choices.training
    rule, judged = keep_rule(settings.choices, validated=any(len(site.val) for site in sites)), Judged()
    run = _PlainRun(sites, settings)
    trunk, began = run.trainer.trunk, time.monotonic()
    epochs: list[PlainEpoch] = []
    best: dict[str, torch.Tensor] = {}
    while len(epochs) < training.epochs and not rule.ends(judged):
        epochs.append(run.epoch(len(epochs)))
        judged = rule.after(judged, len(epochs), epochs[-1].scores.get(training.keep_by))
        if rule.best and judged.best_epoch == len(epochs):
            best = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
        on_epoch(epochs[-1])
    if best:
        trunk.load_state_dict(best)
    kept_epoch = judged.best_epoch if best else len(epochs)
    val_scores = epochs[kept_epoch - 1].scores
    return PlainOutcome(
        epochs=tuple(epochs),
        kept_epoch=kept_epoch,
        val_scores=val_scores,
        test_scores=run.test_scores(),
        train_seconds=time.monotonic() - began,
        trunk=trunk,
        model_sha256=state_sha256(trunk),
    )


class _PlainRun:
    def __init__(self, sites: Sequence[Dataset], settings: PlainSettings) -> None:
        choices = settings.choices
        model, training, normalisation = choices.model, choices.training, choices.normalisation
        classes = len(sites[0].classes)
        self._outputs = Outputs(classes, sites[0].task)
        label_order = np.arange(classes) if settings.label_order is None else settings.label_order

        def whole(splits: Sequence[LabelledImages]) -> tuple[NDArray[np.uint8], torch.Tensor]:
            labels = plain_labels(permuted_labels(np.concatenate([split.labels for split in splits]), label_order))
            return np.concatenate([split.pixels_NCHW for split in splits]), torch.from_numpy(labels)

        self._train_NCHW, self._train_N = whole([site.train for site in sites])
        self._val = whole([site.val for site in sites])
        self._test = whole([site.test for site in sites])
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
            scores=self._scores(*self._val),
            seconds=time.monotonic() - began,
            losses=tuple(losses),
        )

    def test_scores(self) -> dict[str, float]:
        """Of the network as it is; at the thresholds that its validation scores choose, if it has any."""
        val = self._tallies(*self._val)
        return values(self._tallies(*self._test), self._outputs, thresholds(val, self._outputs) if val else None)

    def _scores(self, pixels_NCHW: NDArray[np.uint8], labels_N: torch.Tensor) -> dict[str, float]:
        return values(self._tallies(pixels_NCHW, labels_N), self._outputs)

    def _tallies(self, pixels_NCHW: NDArray[np.uint8], labels_N: torch.Tensor) -> dict[str, Tally]:
        made = []
        for low in range(0, len(labels_N), _SCORED_AT_ONCE):
            rows = slice(low, low + _SCORED_AT_ONCE)
            logits_BC = self.trainer.logits(self._features(pixels_NCHW[rows]))
            made.append(tallies(logits_BC.numpy().astype(np.float64), labels_N[rows].numpy(), self._outputs))
        return merged(made)

    def _features(self, pixels_BCHW: NDArray[np.uint8]) -> torch.Tensor:
        with torch.no_grad(), self.trainer.autocast():
            x_BCHW = self._device.place(torch.from_numpy(normalise(pixels_BCHW, self._normalisation)))
            return plain_features(self._stem, x_BCHW)
