"""How the samples of a split are counted: over all sites in the plan's order, and within one site.

Legend: a *number* counts over all sites, an *id* within one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class SampleNumbering:
    """Numbers and ids of one split."""

    def __init__(self, images: Mapping[str, int]) -> None:
        """Count so many samples of each site, in this order."""
        self._sites = tuple(images)
        self._starts = np.concatenate([[0], np.cumsum(list(images.values()))]).astype(np.int64)

    @property
    def samples(self) -> int:
        """Of all sites."""
        return int(self._starts[-1])

    def numbers(self, site: str, ids: Sequence[int] | Numbers) -> Numbers:
        """The numbers of a site's samples."""
        start = int(self._starts[self._sites.index(site)])
        return np.asarray(ids, np.int64) + start

    def span(self, site: str) -> slice:
        """Where all of a site's samples stand among the numbers."""
        place = self._sites.index(site)
        return slice(int(self._starts[place]), int(self._starts[place + 1]))

    def by_site(self, numbers: Numbers) -> dict[str, Numbers]:
        """The ids that numbers stand for, in their order, of each site that has any of them."""
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        found = {site: numbers[places == place] - self._starts[place] for place, site in enumerate(self._sites)}
        return {site: ids for site, ids in found.items() if len(ids)}
