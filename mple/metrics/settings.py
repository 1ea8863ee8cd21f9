"""What a consortium decides about the tallies by which its network is judged."""

from dataclasses import dataclass
from typing import Annotated

from mple.metrics.tallies import TALLIES
from mple.ranges import Between, OneOf, check_ranges

LeastCount = Annotated[int, Between(1, 1_000_000)]
"""Samples, below which a site tells nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricSettings:
    """Which tallies of its validation and test pictures a site tells; docs/guide/metrics.md says what each is for."""

    tallies: tuple[Annotated[str, OneOf(tuple(TALLIES))], ...] = tuple(TALLIES)
    """What is left out is told to nobody, and the metrics that need it have no pooled values; each site's own file of
    scores has them all."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(set(self.tallies)) != len(self.tallies):
            raise ValueError(f"tallies = {list(self.tallies)}; name each once")
