"""The order of training, a pure function of the plan: which samples of which site make up which step.

Legend: a *global* number counts all sites' training samples one after the other in the plan's order of sites
(`mple.plan.sample_numbering`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mple.plan.shares import WHOLE, Share

Indices = NDArray[np.int64]


class GlobalSampler:
    """One permutation of a rank's samples of all sites per epoch, cut into steps.

    Guarantees: every sample is in exactly one step of each epoch, at one rank; the sizes of an epoch's steps, over all
    ranks and at each, differ by one at most, and none exceeds `batch`; however many ranks there are, an epoch has
    equally many steps, of equal sizes over all ranks; equal arguments give equal orders on every machine (NumPy's PCG64
    and `Generator.permutation` under a fixed NumPy major version). Not promised: secrecy. The seed is public.
    """

    def __init__(self, site_sizes: Sequence[int], batch: int, seed: int, share: Share = WHOLE) -> None:
        if not site_sizes or min(site_sizes) < 1:
            raise ValueError(f"site sizes {list(site_sizes)}: every site needs a training sample")
        if batch < 1:
            raise ValueError(f"batch = {batch}: needs a sample at least")
        self.samples = sum(site_sizes)
        """Of all ranks."""
        self.steps_per_epoch = -(-self.samples // batch)
        self.share = share
        self._seed = [seed] if share.ranks == 1 else [seed, share.rank, share.ranks]
        self._order_epoch = -1
        self._order: Indices = np.empty(0, np.int64)

    def step(self, epoch: int, step: int) -> Indices:
        """Global numbers of the rank's samples of one step; both counted from 0."""
        if epoch < 0 or not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"epoch {epoch}, step {step}: an epoch has steps 0 to {self.steps_per_epoch - 1}")
        low = self.share.below(self.samples * step // self.steps_per_epoch)
        high = self.share.below(self.samples * (step + 1) // self.steps_per_epoch)
        return self.epoch_order(epoch)[low:high]

    def epoch_order(self, epoch: int) -> Indices:
        """Global numbers of all the rank's samples in the order of an epoch, counted from 0."""
        if epoch != self._order_epoch:
            generator = np.random.Generator(np.random.PCG64([*self._seed, epoch]))
            own = self.share.numbers(self.samples)
            self._order = own[generator.permutation(len(own))]
            self._order_epoch = epoch
        return self._order
