"""A step that all ranks take together: what their batches come to, and which samples were in them.

Every rank knows the order of all others from the plan, so each tells only what it lacked. So all of them keep the same
record of an epoch, and rank 0 can write a checkpoint without a word from the others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute_node.ranks import RankGroup
from mple.model.training import StepLoss
from mple.plan import GlobalSampler, RunPlan
from mple.plan.shares import Share

_TOLD = struct.Struct("<qdd")


@dataclass(frozen=True, slots=True)
class JointStep:
    """A step over all ranks."""

    total: StepLoss
    numbers: NDArray[np.int64]
    """Of the samples that it was taken with, of all ranks."""


class JointSteps:
    """The steps of one plan."""

    def __init__(self, plan: RunPlan, own: GlobalSampler, group: RankGroup) -> None:
        """Of a rank whose sampler is `own`."""
        sizes = [site.train_images for site in plan.sites]
        self._samplers = [
            own if rank == own.share.rank else _sampler(plan, sizes, Share(rank, own.share.ranks))
            for rank in range(own.share.ranks)
        ]
        self._own, self._group = own, group

    def taken(self, epoch: int, step: int, part: StepLoss, numbers: NDArray[np.int64]) -> JointStep:
        """Tell the others what this rank's batch comes to, and hear what theirs do; epoch and step are counted from 0.

        Args:
            epoch: Of the step.
            step: Of the epoch.
            part: This rank's batch; its samples are none where it has too few.
            numbers: Of the samples in the batch.

        Raises RankEndedError, StoppedError: as `RankGroup`.
        """
        wanted = self._own.step(epoch, step)
        lacking = wanted[~np.isin(wanted, numbers)] if part.samples else np.empty(0, np.int64)
        mine = _TOLD.pack(part.samples, part.weight, part.nats) + lacking.astype("<i8").tobytes()
        parts, used = [], []
        for sampler, told in zip(self._samplers, self._group.gather(mine), strict=True):
            samples, weight, nats = _TOLD.unpack_from(told)
            parts.append(StepLoss(samples=samples, weight=weight, nats=nats))
            if samples:
                theirs = sampler.step(epoch, step)
                used.append(theirs[~np.isin(theirs, np.frombuffer(told, "<i8", offset=_TOLD.size))])
        return JointStep(StepLoss.over(parts), np.concatenate(used) if used else np.empty(0, np.int64))


def _sampler(plan: RunPlan, sizes: Sequence[int], share: Share) -> GlobalSampler:
    return GlobalSampler(sizes, plan.training.batch, plan.training.seed, share)
