"""What one epoch has used and lost, kept with its checkpoints: the proof that each sample was trained on once. Pure.

Legend: N training samples of all sites, S steps of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.plan import GlobalSampler, RunPlan
from mple.rpc import ErrorCode, MpleError

if TYPE_CHECKING:
    from compute_node.training.checkpoint import Position


class EpochRecord:
    """Losses, weights and uses of one epoch."""

    def __init__(
        self,
        epoch: int,
        step: int,
        seconds: float,
        losses_S: NDArray[np.float64],
        weights_S: NDArray[np.float64],
        uses_N: NDArray[np.uint8],
    ) -> None:
        self.epoch, self.step, self.seconds = epoch, step, seconds
        self._losses_S, self._weights_S, self._uses_N = losses_S, weights_S, uses_N

    @classmethod
    def begin(cls, epoch: int, sampler: GlobalSampler) -> EpochRecord:
        """Of an epoch, counted from 0, that has not begun."""
        steps = sampler.steps_per_epoch
        return cls(epoch, 0, 0.0, np.zeros(steps), np.zeros(steps), np.zeros(sampler.samples, np.uint8))

    @classmethod
    def of(cls, position: Position, tensors: Mapping[str, Tensor]) -> EpochRecord:
        """As `tensors` wrote it."""
        parts = (tensors[f"epoch.{name}"].numpy().copy() for name in ("losses", "weights", "uses"))
        return cls(position.epoch, position.step, position.epoch_seconds, *parts)

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        parts = {"losses": self._losses_S, "weights": self._weights_S, "uses": self._uses_N}
        return {f"epoch.{name}": torch.from_numpy(part) for name, part in parts.items()}

    def took(self, step: int, numbers: NDArray[np.int64], loss: float | None) -> None:
        """A step is done, with these samples, or with none when it had no loss."""
        self.step = step + 1
        if loss is not None:
            self._losses_S[step], self._weights_S[step] = loss, len(numbers)
            np.add.at(self._uses_N, numbers, 1)

    @property
    def samples(self) -> int:
        """Samples that were used."""
        return int(np.count_nonzero(self._uses_N))

    def mean_loss(self) -> float:
        """Over the samples used. Raises MpleError: STALLED when there were none."""
        if not self._weights_S.any():
            raise MpleError(ErrorCode.STALLED, f"no sample of any site was here in epoch {self.epoch + 1}")
        return float(np.average(self._losses_S, weights=self._weights_S))

    def require_once(self) -> None:
        """Check that no sample was used twice. Raises RuntimeError: one was: a fault of this program."""
        if self._uses_N.max() > 1:
            raise RuntimeError(f"sample {int(self._uses_N.argmax())} was trained on twice in epoch {self.epoch + 1}")

    def missing(self, plan: RunPlan) -> dict[str, str]:
        """Numbers of unused samples within their sites, as "0-12,40", by site."""
        ends = np.cumsum([site.train_images for site in plan.sites])
        parts = zip(plan.sites, np.split(self._uses_N, ends[:-1]), strict=True)
        return {site.name: ranges(np.flatnonzero(uses == 0)) for site, uses in parts if not uses.all()}


def ranges(numbers: NDArray[np.int64]) -> str:
    """Rising numbers as text: 0, 1, 2, 5 becomes "0-2,5"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs if len(run))
