"""What really is in a run, for scoring alone: no attack gets any of it.

Legend: K blocks, Q core side, F filters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.data import LabelledImages
from mple.model.stem import Stem
from mple.morph import Cores, MorphKey
from mple.morph.basis import Basis
from mple.morph.cores import draw_core
from mple.morph.morpher import Morpher
from mple.plan import RunPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteTruth:
    """One site's secrets."""

    train: LabelledImages
    """Its training pictures with their real labels, by number."""
    key: MorphKey
    """That its attacked pictures are morphed with."""
    key_epoch: int
    basis: Basis | None = None
    """Of that key, where the plan's codec has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth:
    """All secrets of a run."""

    plan: RunPlan
    sites: Mapping[str, SiteTruth]
    stem: Stem
    channel_order_F: NDArray[np.int64]
    """Place j holds the stem's feature `order[j]`."""
    label_order: NDArray[np.int64]
    """Place j on the wire holds class `order[j]`."""

    def morpher(self, site: str) -> Morpher:
        """The site's own."""
        one = self.sites[site]
        return Morpher(
            self.plan.morph.scheme(),
            self.plan.image,
            one.key,
            session=self.plan.session,
            key_epoch=one.key_epoch,
            basis=one.basis,
        )

    def inverse_cores(self, site: str) -> Tensor:
        """M⁻¹, with a basis W~'·M⁻¹ and zeros below, as views hold codes: (1, Q, Q) for identical cores, else
        (K, Q, Q), float64."""
        plan, one = self.plan, self.sites[site]
        scheme, geometry = plan.morph.scheme(), plan.geometry
        count = 1 if scheme.cores is Cores.IDENTICAL else geometry.blocks
        cores = [
            draw_core(one.key, scheme, geometry.core_side, session=plan.session, key_epoch=one.key_epoch, block=block)
            for block in range(count)
        ]
        inverse_KQQ = np.stack([core.inverse_QQ for core in cores])
        if one.basis is not None:
            for number, inverse_QQ in enumerate(inverse_KQQ):
                inverse_QQ[: one.basis.columns] = one.basis.synthesis(number) @ inverse_QQ
                inverse_QQ[one.basis.columns :] = 0
        return torch.from_numpy(inverse_KQQ)
