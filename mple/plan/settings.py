"""What a consortium decides about a run, each field with range and unit; network and training in `mple.model`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from mple.model.settings import ModelSettings, TrainingSettings
from mple.morph import PRESETS, Cores, Ensemble, Layout, MorphScheme
from mple.wire.names import CODECS, LAYER_DTYPES


class Custody(StrEnum):
    """Who computes the augmented layers."""

    SITE = "site"
    """Each site builds its own layer; its morph key never leaves it."""
    ESCROW = "escrow"
    """Each site seals its key to the coordinator, which builds all layers."""


class AbsencePolicy(StrEnum):
    """What becomes of a run when a site stays away."""

    WAIT = "wait"
    """Training waits for it; after `patience_s` without any progress the run fails."""
    PROCEED = "proceed"
    """After `patience_s` training goes on without the missing samples, which the summary names."""


class PrivacyMode(StrEnum):
    """Whether what leaves a site is bounded beyond morphing."""

    NONE = "none"
    NOISE = "noise"
    """Gaussian noise is added to every picture before it is morphed."""


class NoiseShape(StrEnum):
    """How noise is spread over a picture."""

    ISOTROPIC = "isotropic"
    """Equally over all values."""
    COVARIANCE = "covariance"
    """After the covariance of the site's training pictures, with the least power for the budget: most of it in low
    frequencies, as pictures themselves are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MorphSettings:
    """A preset, or a preset with single choices replaced."""

    preset: str = "compact"
    """`compact`, `distinct`, `paper` or `mole`."""
    layout: Layout | None = None
    cores: Cores | None = None
    ensemble: Ensemble | None = None
    kappa: int | None = None
    """Number of cores along the diagonal, for the `unrolled` layout."""
    tile: int | None = None
    """Tile side in pixels, for the `tiled` layout."""
    border: int | None = None
    """Zero pixels added on each side before unrolling."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset = {self.preset!r}; choose one of {', '.join(PRESETS)}")
        self.scheme()

    def scheme(self) -> MorphScheme:
        """The scheme that these settings mean."""
        base = PRESETS[self.preset]
        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "preset"}
        known = {field.name: getattr(base, field.name) for field in fields(MorphScheme)}
        return MorphScheme(**{**known, **{name: value for name, value in chosen.items() if value is not None}})


@dataclass(frozen=True, kw_only=True, slots=True)
class WireSettings:
    """How morphed values travel."""

    codec: str = "q6"
    """`f32`, `f16`, or `q8`, `q7`, `q6`, `q5`, `q4`: steps of 2^-5 to 2^-1 of normalised pixels, entropy coded."""
    layer: str = "int8"
    """Numbers of augmented layers: `int8` with a scale for each output, `f16` or `f32`. Layers of uniform cores are f32
    always: their large numbers cancel each other."""
    message_bytes: int = 512 * 1024
    """Most bytes of codes in one message before entropy coding, 16 KiB to 1 MiB; a single sample may be larger."""
    releases: int = 4
    """How often a site may send one sample in a run, re-sending after a lost link included, 1 to 255."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec = {self.codec!r}; choose one of {', '.join(CODECS)}")
        if self.layer not in LAYER_DTYPES:
            raise ValueError(f"layer = {self.layer!r}; choose one of {', '.join(LAYER_DTYPES)}")
        if not 16 * 1024 <= self.message_bytes <= 1024 * 1024:
            raise ValueError(f"message_bytes = {self.message_bytes}; allowed are 16384 to 1048576")
        if not 1 <= self.releases <= 255:
            raise ValueError(f"releases = {self.releases}; allowed are 1 to 255")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacySettings:
    """The hardened mode: noise calibrated to a bound on what a picture gives away, see docs/science/privacy.md."""

    mode: PrivacyMode = PrivacyMode.NONE
    shape: NoiseShape = NoiseShape.COVARIANCE
    budget_bits: float = 64.0
    """Most mutual information of a picture and all that leaves the site of it, above 0 to 1e6."""

    def __post_init__(self) -> None:
        if not 0 < self.budget_bits <= 1e6:
            raise ValueError(f"budget_bits = {self.budget_bits}; allowed are above 0 to 1e6")
        if self.mode is PrivacyMode.NONE and (self.shape, self.budget_bits) != (NoiseShape.COVARIANCE, 64.0):
            raise ValueError(
                f'shape = "{self.shape}" and budget_bits = {self.budget_bits:g} with mode = "none" would protect '
                'nothing; set mode = "noise"'
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsenceSettings:
    """How long a run bears a silent site, and what then."""

    policy: AbsencePolicy = AbsencePolicy.WAIT
    patience_s: float = 600.0
    """Time without any progress, 1 to 1e9; time in which the waiting process itself stood still does not count."""

    def __post_init__(self) -> None:
        if not 1 <= self.patience_s <= 1e9:
            raise ValueError(f"patience_s = {self.patience_s}; allowed are 1 to 1e9 seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalisationSettings:
    """Pixels to network inputs: (pixel / 255 - mean) / std, one value for all channels or one each."""

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if not self.mean or len(self.mean) != len(self.std) or not finite or min(self.std) <= 0:
            raise ValueError(f"mean = {self.mean}, std = {self.std}; need equal counts, finite, std above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoices:
    """All that a consortium decides about a run, a section for each.

    The files of a coordinator and of a simulation have these sections, and so has the plan. Whoever compares choices or
    hands them on takes them as a whole, so that a new section needs no line but its own here.
    """

    morph: MorphSettings = field(default_factory=MorphSettings)
    wire: WireSettings = field(default_factory=WireSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    absence: AbsenceSettings = field(default_factory=AbsenceSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)

    def sections(self) -> dict[str, Any]:
        """Every section by its name, as keyword arguments of whatever else has all of them."""
        return {section.name: getattr(self, section.name) for section in fields(RunChoices)}


def choices_of(made: RunChoices) -> RunChoices:
    """The choices of a configuration or a plan, without what else it says."""
    return RunChoices(**made.sections())


def changed_sections(one: RunChoices, other: RunChoices) -> list[str]:
    """Names of the sections in which two configurations or plans differ."""
    theirs = other.sections()
    return [name for name, section in one.sections().items() if section != theirs[name]]
