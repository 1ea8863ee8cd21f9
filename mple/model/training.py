"""One step of training and of scoring the trunk: the same code for morphed and for plain images.

It knows nothing of where features come from; whoever calls it brings feature maps of the first convolution, already
in the run's channel order. Randomness is a function of seed and step, so that a restart needs no random state.

Several processes, ranks, can take each step together: every one makes the loss of its own batch, they tell one another
what those come to, and gradients are averaged on their way back (`compute_node.ranks`).

Legend: B samples, F filters, H W size, C classes, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mple.model.augmentation import Augmentation
from mple.model.device import CPU, Device
from mple.model.loss import TaskLoss
from mple.model.optimiser import Optimiser
from mple.model.settings import Precision, TrainingSettings

_RANK_APART = 2**61 + 2**31 + 1
"""Between the seeds of two ranks in one step."""


class DivergenceError(ValueError):
    """The network's numbers have left all bounds; the text names the setting that cures it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLoss:
    """What the batch of a step comes to, of one rank or of all."""

    samples: int
    weight: float
    """What the loss is the mean over: samples, or known labels."""
    nats: float
    """The mean loss."""

    @classmethod
    def over(cls, parts: Sequence[StepLoss]) -> StepLoss:
        """Of several batches, as if they were one; their order decides how sums are rounded."""
        if len(parts) == 1:
            return parts[0]
        weight = sum(part.weight for part in parts)
        nats = sum(part.weight * part.nats for part in parts) / weight if weight else 0.0
        return cls(samples=sum(part.samples for part in parts), weight=weight, nats=nats)


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """A batch on its way through the network and back."""

    mean: Tensor
    """In nats."""
    part: StepLoss


class TrunkTrainer:
    """A trunk with its optimiser.

    Guarantees: equal trunks, settings and features give equal weights, bit for bit, on one machine with equal thread
    counts and, where several ranks train together, on machines of one kind with equal numbers of ranks. Not promised:
    equality across machines, thread counts or numbers of ranks (sums are ordered otherwise there).
    """

    def __init__(
        self,
        trunk: nn.Module,
        settings: TrainingSettings,
        total_steps: int,
        device: Device = CPU,
        loss: TaskLoss | None = None,
        mirrored_channels: NDArray[np.int64] | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        wrapped: Callable[[nn.Module], nn.Module] = lambda trunk: trunk,
    ) -> None:
        """Begin a training.

        Args:
            trunk: With its first weights.
            settings: Of the training.
            total_steps: Of all epochs.
            device: Where the trunk is trained.
            loss: Of the task; by default that of classes without weights.
            mirrored_channels: Where the settings mirror feature maps, of each channel the one that holds its mirror
                image.
            rank: This process, of those that train together.
            ranks: How many there are.
            wrapped: Makes of the trunk what a step goes through, so that each gradient is the mean over all ranks.
        """
        self.trunk = device.place_module(trunk)
        self._frozen = freeze(trunk, settings.frozen_stages)
        self._loss = loss or TaskLoss()
        self.device = device
        self._settings = settings
        self._augmentation = Augmentation(settings, mirrored_channels, rank)
        self._rank, self._ranks, self._wrapped = rank, ranks, wrapped(trunk)
        self._optimiser = Optimiser(trunk, settings, total_steps)
        self.steps_done = 0

    @property
    def learning_rate(self) -> float:
        """The highest of the step to come."""
        return max(self._optimiser.learning_rates)

    def autocast(self) -> torch.autocast:
        """The arithmetic of the run, to be entered around everything that makes or uses features."""
        return self.device.autocast(torch.bfloat16 if self._settings.precision is Precision.BF16 else torch.float32)

    def step(self, f_BFHW: Tensor, labels: Tensor) -> float:
        """Train on one batch of features and return its mean loss in nats; labels are class numbers (B) or, as the
        loss has it, labels (B, L). For a process that trains alone.

        Raises DivergenceError: the loss is NaN or infinite; the weights keep their last values. FloatingPointError: a
        feature is, so that something is wrong with the samples or their layer.
        """
        batch = self.forward(f_BFHW, labels)
        self.backward(batch, batch.part)
        return batch.part.nats

    def settle(self, f_BFHW: Tensor) -> None:
        """Before the first step of several ranks: once through the network and back with any features, to no effect.
        Torch lays gradients out anew behind the first time, and how they are laid out decides how sums are rounded."""
        self.nothing(f_BFHW).mean.backward()  # type: ignore[no-untyped-call]
        self._optimiser.clear_gradients()

    def forward(self, f_BFHW: Tensor, labels: Tensor) -> BatchLoss:
        """The first half of `step`: the loss of one batch, which may be no number.

        Raises FloatingPointError: as `step`.
        """
        torch.manual_seed((self._settings.seed * 1_000_003 + self.steps_done + self._rank * _RANK_APART) % 2**63)
        self.trunk.train()
        for module in self._frozen:
            module.eval()
        with self.autocast():
            f_BFHW = self._augmentation.varied(f_BFHW, self.steps_done)
            logits_BC = self._wrapped(f_BFHW)
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        loss = self._loss(logits_BC, self.device.place(labels), self._settings.label_smoothing)
        nats = float(loss.detach())
        if not np.isfinite(nats) and not torch.isfinite(f_BFHW).all():
            raise FloatingPointError(f"a feature of step {self.steps_done} is NaN or infinite: no rate cures that")
        return BatchLoss(loss, StepLoss(samples=len(labels), weight=self._loss.weight_of(labels), nats=nats))

    def nothing(self, f_BFHW: Tensor) -> BatchLoss:
        """In place of `forward` at a rank that has no batch in a step that others take: any features, which change
        neither a gradient nor a statistic."""
        self.trunk.eval()
        with self.autocast():
            loss = self._wrapped(f_BFHW).float().sum() * 0.0
        return BatchLoss(loss, StepLoss(samples=0, weight=0.0, nats=0.0))

    def backward(self, batch: BatchLoss, total: StepLoss) -> None:
        """The second half of `step`: train on a batch.

        Args:
            batch: What `forward` has returned.
            total: What it comes to with those of all ranks.

        Raises DivergenceError: the loss over all is NaN or infinite; the weights keep their last values.
        """
        if not np.isfinite(total.nats):
            raise self._diverged(f"the loss of step {self.steps_done} is {total.nats}")
        # The ranks' gradients are averaged; what counts is the mean over all samples.
        part = self._ranks * batch.part.weight / total.weight if total.weight else 1.0
        self._optimiser.clear_gradients()
        (batch.mean if part == 1.0 else batch.mean * part).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.steps_done += 1

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on but the settings and `steps_done`: weights, statistics, moments, rates. The
        tensors are the trainer's own; copy or write them before the next step."""
        tensors = {f"trunk.{name}": tensor.detach() for name, tensor in self.trunk.state_dict().items()}
        return {**tensors, **self._optimiser.state()}

    def restore(self, tensors: Mapping[str, Tensor], steps_done: int) -> None:
        """Go on where the trainer was whose `state` these are; the steps to come equal, bit for bit, those of it.

        Raises ValueError: they are of another network.
        """
        weights = {name.removeprefix("trunk."): t for name, t in tensors.items() if name.startswith("trunk.")}
        try:
            self.trunk.load_state_dict(weights)
        except RuntimeError as fault:
            raise ValueError(f"these are not this network's weights: {fault}") from None
        self._optimiser.restore(tensors, steps_done)
        self.steps_done = steps_done

    @torch.no_grad()
    def logits(self, f_BFHW: Tensor) -> Tensor:
        """Class scores (B, C) in float32 in main memory, with the trunk in evaluation mode.

        Raises DivergenceError: a score is NaN or infinite.
        """
        self.trunk.eval()
        with self.autocast():
            scores_BC: Tensor = self.trunk(f_BFHW)
        scores_BC = scores_BC.float().cpu()
        if not torch.isfinite(scores_BC).all():
            raise self._diverged(f"after step {self.steps_done} the network answers with NaN or infinity")
        return scores_BC

    def require_finite(self) -> None:
        """Refuse a network that the last step has spoiled: no loss and no score has shown it yet.

        Raises DivergenceError: a weight, or a mean or variance of batch norm, is NaN or infinite.
        """
        for name, tensor in self.trunk.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise self._diverged(f"after step {self.steps_done} {name} holds NaN or infinity")

    def _diverged(self, what: str) -> DivergenceError:
        rate, decay = self._settings.highest_lr, self._settings.decay
        # A weight keeps 1 - rate * decay of itself in a step: beyond 2 decay alone makes it grow.
        other = f" or training.weight_decay (now {decay:g})" if rate * decay > 1 else ""
        return DivergenceError(f"{what}: lower training.peak_lr (now {rate:g}){other}")


def freeze(trunk: nn.Module, stages: int) -> list[nn.Module]:
    """Take the first stages of a trunk, each up to and with its pool, out of training.

    Returns:
        Their modules, which are to be in evaluation mode while the others train.
    """
    frozen: list[nn.Module] = []
    coming = iter(trunk.get_submodule("features").children() if stages else ())
    for _ in range(stages):
        for module in coming:
            frozen.append(module.requires_grad_(False))
            if isinstance(module, nn.MaxPool2d):
                break
    return frozen
