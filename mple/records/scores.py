"""What the network that a training has come to was judged by: `scores.json` of the compute node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from mple.metrics import Outputs, Tally, merged, thresholds, values
from mple.ranges import Between, Ranged

TalliesBySite = Mapping[str, Mapping[str, Tally]]
"""By site and name, classes in the permuted order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkScores(Ranged):
    """The sites' tallies of one network."""

    plan_sha256: str
    model_sha256: str
    kept_epoch: Annotated[int, Between(1, 10_000)]
    """The epoch after which the network was so, counted from 1."""
    epochs: Annotated[int, Between(1, 10_000)]
    """Epochs that were trained, fewer than the plan's after an early end."""
    val: TalliesBySite
    """Of validation images after that epoch; a site that has none or did not score is left out."""
    test: TalliesBySite
    """Of test images."""

    def values_of_val(self, outputs: Outputs) -> dict[str, float]:
        """The metrics over all sites that scored, by name."""
        return values(merged(self.val.values()), outputs)

    def values_of_test(self, outputs: Outputs) -> dict[str, float]:
        """The same; those at a threshold are at the one that validation chose."""
        at = thresholds(merged(self.val.values()), outputs) if self.val else None
        return values(merged(self.test.values()), outputs, at)
