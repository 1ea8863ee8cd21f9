"""One step of training and of scoring the trunk: the same code for morphed and for plain images.

It knows nothing of where features come from; whoever calls it brings feature maps of the first convolution, already
in the run's channel order. Randomness is a function of seed and step, so that a restart needs no random state.

Legend: B samples, F filters, H W size, C classes, L labels.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mple.model.augmentation import Augmentation
from mple.model.device import CPU, Device
from mple.model.loss import TaskLoss
from mple.model.optimiser import Optimiser
from mple.model.settings import Precision, TrainingSettings


class DivergenceError(ValueError):
    """The network's numbers have left all bounds; the text names the setting that cures it."""


class TrunkTrainer:
    """A trunk with its optimiser.

    Guarantees: equal trunks, settings and features give equal weights, bit for bit, on one machine with equal thread
    counts. Not promised: equality across machines or thread counts (sums are ordered otherwise there).
    """

    def __init__(
        self,
        trunk: nn.Module,
        settings: TrainingSettings,
        total_steps: int,
        device: Device = CPU,
        loss: TaskLoss | None = None,
        mirrored_channels: NDArray[np.int64] | None = None,
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
        """
        self.trunk = device.place_module(trunk)
        self._frozen = freeze(trunk, settings.frozen_stages)
        self._loss = loss or TaskLoss()
        self.device = device
        self._settings = settings
        self._augmentation = Augmentation(settings, mirrored_channels)
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
        loss has it, labels (B, L).

        Raises DivergenceError: the loss is NaN or infinite; the weights keep their last values. FloatingPointError: a
        feature is, so that something is wrong with the samples or their layer.
        """
        torch.manual_seed((self._settings.seed * 1_000_003 + self.steps_done) % 2**63)
        self.trunk.train()
        for module in self._frozen:
            module.eval()
        with self.autocast():
            f_BFHW = self._augmentation.varied(f_BFHW, self.steps_done)
            logits_BC = self.trunk(f_BFHW)
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        loss = self._loss(logits_BC, self.device.place(labels), self._settings.label_smoothing)
        value = float(loss.detach())
        if not np.isfinite(value):
            if not torch.isfinite(f_BFHW).all():
                raise FloatingPointError(f"a feature of step {self.steps_done} is NaN or infinite: no rate cures that")
            raise self._diverged(f"the loss of step {self.steps_done} is {value}")
        self._optimiser.clear_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.steps_done += 1
        return value

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
