"""What a consortium decides about a run, each field with range and unit; network and training in `mple.model`."""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Annotated, Any

from mple.data.settings import NormalisationSettings
from mple.metrics import METRICS, MetricSettings
from mple.model.settings import Augment, ModelSettings, TaskSettings, TrainingSettings
from mple.morph import PRESETS, Cores, Ensemble, Layout, MorphScheme
from mple.morph.scheme import Border, Kappa, Tile
from mple.ranges import Between, OneOf, Ranged, check_ranges
from mple.wire.names import CODECS, LAYER_FORMS, value_codec


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

    preset: Annotated[str, OneOf(tuple(PRESETS))] = "compact"
    """`compact`: tiles of 8x8 pixels that share one core; `distinct`: a core for each tile; `paper`: one dense core;
    `mole`: as the MoLe authors' code. Keys that are left out are as the preset has them."""
    layout: Layout | None = None
    cores: Cores | None = None
    ensemble: Ensemble | None = None
    kappa: Kappa | None = None
    """Number of cores along the diagonal, for the `unrolled` layout."""
    tile: Tile | None = None
    """Tile side in pixels, for the `tiled` layout."""
    border: Border | None = None
    """Zero pixels added on each side before unrolling, for the `unrolled` layout."""

    def __post_init__(self) -> None:
        check_ranges(self)
        self.scheme()

    def scheme(self) -> MorphScheme:
        """The scheme that these settings mean."""
        base = PRESETS[self.preset]
        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "preset"}
        known = {field.name: getattr(base, field.name) for field in fields(MorphScheme)}
        return MorphScheme(**{**known, **{name: value for name, value in chosen.items() if value is not None}})


@dataclass(frozen=True, kw_only=True, slots=True)
class WireSettings(Ranged):
    """How morphed values travel."""

    codec: Annotated[str, OneOf(CODECS)] = "k5.5"
    """Code of morphed samples: `f32` and `f16` as floating point numbers, `q8` to `q4` in steps of 2^-5 to 2^-1 of
    normalised pixels, entropy coded; `k8` to `k3`, half numbers too, in steps of 2^-5 to 1 under a basis that each site
    fits to its own morphed blocks: fewer bytes at the same error. Uniform cores, which have no such basis, take `q8` to
    `q4` in their place, of the next finer step."""
    layer: Annotated[str, OneOf(LAYER_FORMS)] = "coded"
    """Numbers of augmented layers: `int8` with a scale for each output; `coded`, rounded by the spread of the
    coefficients that they will meet and entropy coded, which is `int8` where the codec is none of `k8` to `k3` or the
    coordinator builds the layers. Layers of uniform cores are f32 always: their large numbers cancel each other."""
    message_bytes: Annotated[int, Between(16 * 1024, 1024 * 1024)] = 512 * 1024
    """Most bytes of codes in one message before entropy coding; a single sample may be larger."""
    releases: Annotated[int, Between(1, 255)] = 4
    """How often a site may send one sample in a run, re-sending after a lost link included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacySettings:
    """The hardened mode: noise calibrated to a bound on what a picture gives away, see docs/science/privacy.md."""

    mode: PrivacyMode = PrivacyMode.NONE
    shape: NoiseShape = NoiseShape.COVARIANCE
    budget_bits: Annotated[float, Between(0, 1e6, above=True)] = 64.0
    """Most mutual information of a picture and all that leaves the site of it."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.mode is PrivacyMode.NONE and (self.shape, self.budget_bits) != (NoiseShape.COVARIANCE, 64.0):
            raise ValueError(
                f'shape = "{self.shape}" and budget_bits = {self.budget_bits:g} with mode = "none" would protect '
                'nothing; set mode = "noise"'
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsenceSettings(Ranged):
    """How long a run bears a silent site, and what then."""

    policy: AbsencePolicy = AbsencePolicy.WAIT
    patience_s: Annotated[float, Between(1, 1e9)] = 600.0
    """Time without any progress, in seconds; time in which the waiting process itself stood still does not count."""


class DeliverTo(StrEnum):
    """Who has the trained network in the end."""

    SITES = "sites"
    """Every site gets the trunk, and makes the whole network of it. The compute node keeps its trunk."""
    NONE = "none"
    """Nobody but the compute node, which has a trunk without its first layer; sites ask it for predictions."""


class DeliveredDtype(StrEnum):
    """Numbers in which the trunk travels to the sites."""

    F32 = "f32"
    """As it was trained."""
    BF16 = "bf16"
    """Half the bytes; the delivered network's answers differ a little from those that were scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverySettings:
    """What becomes of the trained network."""

    to: DeliverTo = DeliverTo.SITES
    dtype: DeliveredDtype = DeliveredDtype.F32


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoices:
    """All that a consortium decides about a run, a section for each. The files of a coordinator and of a simulation
    have these sections, and so has the plan. Whoever compares choices or hands them on takes them as a whole, so that a
    new section needs no line but its own here."""

    morph: MorphSettings = field(default_factory=MorphSettings)
    wire: WireSettings = field(default_factory=WireSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    absence: AbsenceSettings = field(default_factory=AbsenceSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)

    def __post_init__(self) -> None:
        check_ranges(self)  # a coordinator's file has other fields, too
        if Augment.MIRROR in self.training.augment and not self.model.stem_mirrored:
            raise ValueError(
                'training.augment has "mirror", model.stem_mirrored = false; set it to true, or leave "mirror" out'
            )
        if self.training.frozen_stages and not self.model.from_file:
            raise ValueError(
                f'training.frozen_stages = {self.training.frozen_stages} with model.weights = "seed" would keep '
                'convolutions as they are drawn; set model.weights = "features" or "network", or freeze none'
            )
        if self.morph.scheme().ensemble is not Ensemble.ORTHOGONAL:  # a basis of theirs would not keep lengths
            object.__setattr__(self, "wire", replace(self.wire, codec=value_codec(self.wire.codec)))
        name = self.training.keep_by
        if name not in METRICS or METRICS[name].at_threshold is not None:
            known = ", ".join(name for name, metric in METRICS.items() if metric.at_threshold is None)
            raise ValueError(f"training.keep_by = {name[:50]!r}; choose one of {known}")

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
