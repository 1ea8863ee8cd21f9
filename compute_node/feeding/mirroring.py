"""Which channel holds which one's mirror image: sites that know the channel order tell it as their streams open.

All of them must say the same. It is kept in the state folder, before any sample of that stream is: a restart that finds
its samples in the cache finds it, too.

Legend: F filters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.disk.json_records import read_record, write_record
from mple.model.settings import Augment
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldChannels:
    """What the sites have said."""

    plan_sha256: str
    mirrored_channels: tuple[int, ...]


class Mirroring:
    """The one word of all sites, or none yet. Callers serialise access."""

    def __init__(self, path: Path, plan: RunPlan) -> None:
        """Take up what an earlier process of the plan has kept.

        Raises DamagedError, ValueError: the file is damaged.
        """
        self._path, self._filters = path, plan.filters
        self._plan_sha256 = plan.sha256().hex()
        self.wanted = Augment.MIRROR in plan.training.augment
        """Whether the plan mirrors; where it does not, nobody may tell."""
        self._told: tuple[int, ...] | None = None
        if self.wanted and path.exists():
            kept = read_record(ToldChannels, path)
            if kept.plan_sha256 == self._plan_sha256:
                self._told = kept.mirrored_channels

    @property
    def channels(self) -> NDArray[np.int64] | None:
        """Of each channel, in the permuted order, the one that holds its mirror image (F,); None while nobody told."""
        return None if self._told is None else np.array(self._told, np.int64)

    def take(self, told: Sequence[int], site: str) -> None:
        """Take in what a site says; it is on the disk when this returns.

        Raises MpleError: MIRRORING_REJECTED when it can't be, is not what another site said, or nobody asked.
        """
        if not self.wanted:
            if told:
                raise MpleError(ErrorCode.MIRRORING_REJECTED, "the plan does not mirror: nobody is to tell channels")
            return
        said = tuple(told)
        if len(said) != self._filters:
            text = f"{len(said)} channels' mirror images; the plan has {self._filters} channels"
            raise MpleError(ErrorCode.MIRRORING_REJECTED, text)
        for channel, image in enumerate(said):
            if image >= len(said) or said[image] != channel:
                text = f"channel {channel} has its mirror image in {image}, which has its own elsewhere"
                raise MpleError(ErrorCode.MIRRORING_REJECTED, text)
        if self._told is None:
            write_record(self._path, ToldChannels(plan_sha256=self._plan_sha256, mirrored_channels=said))
            self._told = said
        elif said != self._told:
            raise MpleError(
                ErrorCode.MIRRORING_REJECTED,
                f"site {site} tells other mirror images than a site before it; one of them has another channel order",
            )
