"""What an attack is, what it may be told, and what it hands back.

Legend: N pictures, C channels, H W size, Q core side, F filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import Adversary, RunViews

View = TypeVar("View")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackSettings:
    """How far an attack goes."""

    site: str
    """The site under attack."""
    pictures: int = 256
    """Most pictures to recover, 1 or more."""
    seed: int = 1
    """Of whatever an attack draws."""

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ValueError(f"pictures = {self.pictures}; needs 1 or more")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that an attack or its scoring came to."""

    name: str
    """In words, for a table: "rank of the equations"."""
    value: float | int | str
    unit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredPictures:
    """What an attack takes to be pictures of a site."""

    site: str
    numbers_N: NDArray[np.int64]
    """Of the samples, as in `MorphedPictures`."""
    pixels_NCHW: NDArray[np.float32]
    """0 to 255, not rounded."""
    way: str = ""
    """How, where an attack has several: "with 12 pairs"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The outcome of an attack by the adversary's own means; nothing in it was compared with the truth."""

    recovered: tuple[RecoveredPictures, ...] = ()
    """The last one is the attack's best guess, and the one that the gallery shows."""
    inverse_cores: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    """M⁻¹ by site: (1, Q, Q) for identical cores, else (K, Q, Q), float64."""
    channel_order_F: NDArray[np.int64] | None = None
    claims: Mapping[str, NDArray[np.generic]] = field(default_factory=lambda: MappingProxyType({}))
    """Whatever else it claims, for the attack's own `score`: orders of labels, pairs of samples, contrasts."""
    figures: tuple[Figure, ...] = ()
    """What the adversary itself can tell."""


Score = Callable[[Finding, GroundTruth], Sequence[Figure]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """An entry of the registry."""

    name: str
    """For the command line: lower case, with hyphens."""
    adversary: str
    """In words."""
    claim: str
    """What it gets, in one line."""
    against: Callable[[RunViews], Callable[[AttackSettings], Finding]]
    """The attack with its adversary's view of a run in hand.

    Raises `DoesNotApplyError` where the plan leaves it nothing to do."""
    score: Score | None = None
    """Compares `claims` with the truth; pictures, cores and orders are compared for every attack."""

    @classmethod
    def by(
        cls,
        *,
        name: str,
        adversary: Adversary[View],
        claim: str,
        run: Callable[[View, AttackSettings], Finding],
        score: Score | None = None,
    ) -> Attack:
        """The attack that an adversary makes by `run`: pure, it takes everything from the view."""
        return cls(
            name=name,
            adversary=adversary.words,
            claim=claim,
            against=lambda views: partial(run, adversary.view(views)),
            score=score,
        )


class DoesNotApplyError(ValueError):
    """The run's settings leave an attack nothing to do; the text says why."""
