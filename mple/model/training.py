"""One step of training and of scoring the trunk: the same code for morphed and for plain images.

It knows nothing of where features come from; whoever calls it brings feature maps of the first convolution, already
in the run's channel order. Randomness is a function of seed and step, so that a restart needs no random state.

Legend: B samples, F filters, H W size, C classes, L labels.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mple.model.device import CPU, Device
from mple.model.loss import TaskLoss
from mple.model.optimiser import Optimiser
from mple.model.settings import Augment, Precision, TrainingSettings


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
    ) -> None:
        self.trunk = device.place_module(trunk)
        self._loss = loss or TaskLoss()
        self._device = device
        self._settings = settings
        self._optimiser = Optimiser(trunk, settings, total_steps)
        self.steps_done = 0

    @property
    def learning_rate(self) -> float:
        """The highest of the step to come."""
        return max(self._optimiser.learning_rates)

    def autocast(self) -> torch.autocast:
        """The arithmetic of the run, to be entered around everything that makes or uses features."""
        return self._device.autocast(torch.bfloat16 if self._settings.precision is Precision.BF16 else torch.float32)

    def step(self, f_BFHW: Tensor, labels: Tensor) -> float:
        """Train on one batch of features and return its mean loss in nats; labels are class numbers (B) or, as the
        loss has it, labels (B, L).

        Raises DivergenceError: the loss is NaN or infinite; the weights keep their last values. FloatingPointError: a
        feature is, so that something is wrong with the samples or their layer.
        """
        torch.manual_seed((self._settings.seed * 1_000_003 + self.steps_done) % 2**63)
        self.trunk.train()
        with self.autocast():
            if self._settings.augment is Augment.FEATURES:
                f_BFHW = shifted(f_BFHW, self._settings.shift_px, [self._settings.seed, 2, self.steps_done])
            logits_BC = self.trunk(f_BFHW)
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        loss = self._loss(logits_BC, self._device.place(labels))
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


def shifted(f_BFHW: Tensor, most_px: int, seed: list[int]) -> Tensor:
    """Each sample's maps moved by up to `most_px` along both axes, zeros moving in. Away from the border this equals
    the features of the shifted image: convolution commutes with translation."""
    batch, _, height, width = f_BFHW.shape
    generator = np.random.Generator(np.random.PCG64(seed))
    moves_B2 = generator.integers(0, 2 * most_px + 1, size=(batch, 2)).tolist()
    padded = nn.functional.pad(f_BFHW, (most_px,) * 4)
    moved = torch.empty_like(f_BFHW)
    for i, (down, right) in enumerate(moves_B2):
        moved[i] = padded[i, :, down : down + height, right : right + width]
    return moved
