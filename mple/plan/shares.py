"""Which samples belong to which rank of the compute node: number n of a split to rank n % ranks. Pure.

So each rank has of every site's samples as many as the others, give or take one.

Legend: a *number* counts a split's samples over all sites (`mple.plan.sample_numbering`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_STEP_SAMPLES = 2
"""Of one rank: batch norm needs more than one."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank has of each split.

    Guarantees: the shares of all ranks hold each number once; of any numbers in a row they hold equally many, give or
    take one.
    """

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} of {self.ranks} ranks; they are counted from 0")

    def numbers(self, samples: int) -> NDArray[np.int64]:
        """The rank's numbers in a split of so many samples, rising."""
        return np.arange(self.rank, samples, self.ranks, dtype=np.int64)

    def below(self, number: int) -> int:
        """How many of the rank's numbers are less than one."""
        return max(0, -(-(number - self.rank) // self.ranks))


WHOLE = Share()
"""That of the only rank."""


def require_enough(samples: int, batch: int, ranks: int) -> None:
    """Whether every rank has samples enough in each step of an epoch.

    Args:
        samples: Training samples of all sites.
        batch: Samples of all ranks in one step, at most.
        ranks: How many there are.

    Raises ValueError: a rank would have fewer than `LEAST_STEP_SAMPLES` in some step; the text names the settings.
    """
    least = samples // -(-samples // batch)
    if ranks > 1 and least // ranks < LEAST_STEP_SAMPLES:
        most = least // LEAST_STEP_SAMPLES
        raise ValueError(
            f"training.ranks = {ranks} with training.batch = {batch} and {samples} training samples: steps of {least} "
            f"samples leave a rank fewer than {LEAST_STEP_SAMPLES}, which batch norm needs; start at most "
            f"{max(1, most)} ranks, or raise training.batch"
        )
