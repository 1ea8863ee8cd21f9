"""Who attacks, and with what: each view holds what one stated adversary holds, and nothing else.

An attack takes a view and no file. All adversaries know the plan, which holds no secret (Kerckhoffs, 1883), and public
pictures of the same kind; of the plan the stem's seed is blanked for those that are said not to know the stem. Keys,
orders and pictures of the run are never in a view, but for the pairs and the colluder's secrets that it names.

Legend: N pictures, P public pictures, C channels, H W size, K blocks, Q core side, F filters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mple.model.stem import Stem
from mple.morph import MorphKey
from mple.morph.augmented import AugmentedLayer
from mple.morph.basis import Basis
from mple.plan import RunPlan, WeightsFrom


@dataclass(frozen=True, kw_only=True, slots=True)
class MorphedPictures:
    """What has travelled of one site under one key, decoded as anybody can decode it."""

    site: str
    numbers_N: NDArray[np.int64]
    """Numbers of the samples within the site's training split, by which they are asked for."""
    t_NKQ: Tensor
    """Morphed blocks, float32; where the codec has a basis their coefficients, zeros beyond those that travel. For an
    attack that is another orthogonal core, nearly."""
    labels_N: NDArray[np.int64]
    """Labels in the consortium's secret order, as they travel."""

    def __len__(self) -> int:
        return len(self.numbers_N)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPairs:
    """Pictures that the adversary has in both forms."""

    pixels_NCHW: NDArray[np.uint8]
    t_NKQ: Tensor

    def __len__(self) -> int:
        return len(self.pixels_NCHW)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outsider:
    """Has the morphed pictures of one site: a stolen cache, a log, a bucket, a tap behind TLS."""

    plan: RunPlan
    morphed: MorphedPictures
    public_PCHW: NDArray[np.uint8]
    public_labels_P: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Class numbers of the public pictures; empty where they are not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutsiderWithPairs:
    """An outsider that knows some of the site's pictures; `morphed` are others."""

    plan: RunPlan
    morphed: MorphedPictures
    public_PCHW: NDArray[np.uint8]
    pairs: KnownPairs


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeNode:
    """Has the morphed pictures and the layers of all sites, and does not know the stem."""

    plan: RunPlan
    sites: Mapping[str, MorphedPictures]
    layers: Mapping[str, AugmentedLayer]
    """The layer for each site's pictures; reading one may take a moment."""
    public_PCHW: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeNodeWithStem(ComputeNode):
    """The compute node that knows the first convolution: of a published seed or network, or its own offer."""

    stem: Stem


@dataclass(frozen=True, kw_only=True, slots=True)
class ColludingCompute(ComputeNode):
    """The compute node, without the stem, and one site that tells it all it has."""

    colluder: str
    key: MorphKey
    """Of the colluder."""
    key_epoch: int
    basis: Basis | None
    """Of that key, where the plan's codec has one."""
    channel_order_F: NDArray[np.int64]
    """The consortium's: place j holds the stem's feature `order[j]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenMessage:
    """One message as a link shows it."""

    time_s: float
    """Since the first message."""
    sender: str
    receiver: str
    bytes: int
    """Serialized, with gRPC's prefix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WireObserver:
    """Sees sizes and times of messages on the sites' links, no contents."""

    plan: RunPlan
    messages: tuple[SeenMessage, ...]
    public_PCHW: NDArray[np.uint8]


def without_stem(plan: RunPlan) -> RunPlan:
    """The plan for whoever is said not to know the stem: its seed and digest are blanked, and any file's that tells
    it."""
    model = replace(plan.model, weights=WeightsFrom.SEED, stem="offered", stem_seed="")
    return replace(plan, model=model, stem_digest="", weights_digest="")
