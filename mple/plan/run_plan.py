"""The run plan: what all parties agree on, as one canonical text whose hash they compare.

The coordinator makes it once all parties have joined. It holds no secret: sites and sizes, key fingerprints,
settings and the digest of the first convolution.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field

from mple.morph import Ensemble, ImageShape, MorphGeometry
from mple.plan.reader import settings_from
from mple.plan.settings import (
    AbsenceSettings,
    Custody,
    ModelSettings,
    MorphSettings,
    PrivacyMode,
    PrivacySettings,
    TrainingSettings,
    WireSettings,
)

PROTOCOL_VERSION = 3


class PlanError(ValueError):
    """A plan contradicts itself or can't be read."""


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
class SitePlan:
    """One site's part of a run."""

    name: str
    train_images: int
    test_images: int
    key_epoch: int
    key_fingerprint: str
    """Hexadecimal, 64 digits."""

    def __post_init__(self) -> None:
        if self.train_images < 1:
            raise ValueError(f"site {self.name!r} has {self.train_images} training images; needs one at least")
        if self.test_images < 0 or self.key_epoch < 1 or len(bytes.fromhex(self.key_fingerprint)) != 32:
            raise ValueError(f"site {self.name!r}: test_images, key_epoch or key_fingerprint out of range")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """Everything that decides what a run computes and what each site releases."""

    run_id: str
    consortium: str
    compute: str
    """Name of the compute node."""
    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    sites: tuple[SitePlan, ...]
    custody: Custody
    stem_digest: str
    """Hexadecimal SHA-256 of the first convolution."""
    morph: MorphSettings
    wire: WireSettings
    model: ModelSettings
    training: TrainingSettings
    normalisation: NormalisationSettings
    absence: AbsenceSettings = field(default_factory=AbsenceSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    protocol: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        if self.protocol != PROTOCOL_VERSION:
            raise PlanError(f"plan speaks protocol {self.protocol}, this program {PROTOCOL_VERSION}; upgrade one")
        names = [site.name for site in self.sites]
        if not names or len(set(names)) != len(names):
            raise PlanError(f"plan names the sites {names}; needs one at least, each once")
        if not 2 <= len(self.classes) <= 65_535:
            raise PlanError(f"plan has {len(self.classes)} classes; allowed are 2 to 65535")
        if len(self.normalisation.mean) not in (1, self.channels):
            raise PlanError(f"normalisation has {len(self.normalisation.mean)} means for {self.channels} channels")
        _ = self.geometry

    @property
    def image(self) -> ImageShape:
        """The shape of every image of the run."""
        return ImageShape(channels=self.channels, height=self.height, width=self.width)

    @property
    def geometry(self) -> MorphGeometry:
        """Blocks and core side for this run's images."""
        return MorphGeometry.of(self.morph.scheme(), self.image)

    @property
    def filters(self) -> int:
        """Output channels of the first convolution."""
        return max(8, round(64 * self.model.width))

    @property
    def layer_dtype(self) -> str:
        """Of the augmented layers on the wire and on the disk: `int8`, `f16` or `f32`."""
        return self.wire.layer if self.morph.scheme().ensemble is Ensemble.ORTHOGONAL else "f32"

    @property
    def session(self) -> bytes:
        """Separates this run's cores from those that the same key makes in another."""
        return self.run_id.encode()

    def site(self, name: str) -> SitePlan:
        """A site's part.

        Raises:
            PlanError: The plan has no such site.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise PlanError(f"the plan has no site {name!r}; it has {', '.join(site.name for site in self.sites)}")

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, UTF-8. Equal plans give equal bytes.

        A plan without noise has no section `privacy`, as plans had none before there was noise. A program of that time
        refuses a plan that has one, rather than release pictures without noise.
        """
        raw = dataclasses.asdict(self)
        if self.privacy.mode is PrivacyMode.NONE:
            del raw["privacy"]
        return json.dumps(raw, sort_keys=True, separators=(",", ":"), default=str).encode()

    def sha256(self) -> bytes:
        """SHA-256 of `to_json`, 32 bytes."""
        return hashlib.sha256(self.to_json()).digest()

    @classmethod
    def from_json(cls, text: bytes) -> RunPlan:
        """Read a plan back.

        Raises:
            PlanError: The text is no plan, has unknown fields, or contradicts itself.
        """
        try:
            return settings_from(cls, json.loads(text), where="plan")
        except (ValueError, TypeError, AttributeError, RecursionError) as fault:
            raise PlanError(f"this is no run plan: {fault}") from None
