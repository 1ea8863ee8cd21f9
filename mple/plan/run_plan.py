"""The run plan: what all parties agree on, as one canonical text whose hash they compare.

The coordinator makes it once all parties have joined. It holds no secret: sites and sizes, key fingerprints,
settings and the digest of the first convolution.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from mple.data.images import PatientSplit
from mple.data.limits import MOST_CHANNELS, MOST_CLASSES, MOST_IMAGES, MOST_LABELS, MOST_SIDE
from mple.disk.json_records import canonical_json, read_json
from mple.metrics import Outputs
from mple.model.settings import TaskKind
from mple.morph import Ensemble, ImageShape, MorphGeometry
from mple.morph.basis import require_transformable
from mple.per_node import Common
from mple.plan.keeping import KeepRule, keep_rule
from mple.plan.reader import settings_from
from mple.plan.settings import Custody, RunChoices
from mple.plan.shares import require_enough
from mple.printable import printable, require_name, require_printable, some_of
from mple.ranges import Between, check_ranges
from mple.wire.label_form import LabelForm
from mple.wire.names import TRANSFORM_CODECS

PROTOCOL_VERSION = 3


class PlanError(ValueError):
    """A plan contradicts itself or can't be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePlan:
    """One site's part of a run."""

    name: str
    train_images: Annotated[int, Between(1, MOST_IMAGES)]
    test_images: Annotated[int, Between(0, MOST_IMAGES)]
    val_images: Annotated[int, Between(0, MOST_IMAGES)] = 0
    key_epoch: Annotated[int, Between(1, 2**32 - 1)]
    key_fingerprint: str
    """Hexadecimal, 64 digits."""
    patients: PatientSplit = PatientSplit.UNKNOWN
    """Whether its validation or test images show patients of its training images, by its own word."""

    def __post_init__(self) -> None:
        require_name("site", self.name)
        check_ranges(self)
        if not re.fullmatch("[0-9a-f]{64}", self.key_fingerprint):
            raise ValueError(f"site {self.name!r}: key_fingerprint needs 64 hexadecimal digits")

    @property
    def images(self) -> int:
        """Of all splits."""
        return self.train_images + self.val_images + self.test_images


@dataclass(frozen=True, kw_only=True)
class RunPlan(RunChoices):
    """Everything that decides what a run computes and what each site releases.

    Without slots: text, digest and a site's part are asked for with every call, and made once a plan.
    """

    run_id: str
    consortium: str
    compute: str
    """Name of the compute node."""
    channels: Annotated[int, Between(1, MOST_CHANNELS)]
    height: Annotated[int, Between(1, MOST_SIDE)]
    width: Annotated[int, Between(1, MOST_SIDE)]
    classes: tuple[str, ...]
    """Names of the classes, or of the labels."""
    sites: tuple[SitePlan, ...]
    custody: Custody
    stem_digest: str
    """Hexadecimal SHA-256 of the first convolution."""
    weights_digest: str = ""
    """Hexadecimal SHA-256 of the file of first weights; empty where they are drawn."""
    protocol: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        RunChoices.__post_init__(self)
        check_ranges(self)
        if self.protocol != PROTOCOL_VERSION:
            raise PlanError(f"plan speaks protocol {self.protocol}, this program {PROTOCOL_VERSION}; upgrade one")
        names = [site.name for site in self.sites]
        if not names or len(set(names)) != len(names):
            raise PlanError(f"plan names the sites {names}; needs one at least, each once")
        if not 2 <= len(self.classes) <= MOST_CLASSES:
            raise PlanError(f"plan has {len(self.classes)} classes; allowed are 2 to {MOST_CLASSES}")
        if self.task.kind is TaskKind.LABELS and len(self.classes) > MOST_LABELS:
            raise PlanError(f"plan has {len(self.classes)} labels; allowed are 2 to {MOST_LABELS}")
        for name in self.classes:
            require_printable("class", name)
        for what, name in {"run_id": self.run_id, "consortium": self.consortium, "compute": self.compute}.items():
            require_name(what, name)
        for what, digest in {"stem_digest": self.stem_digest, "weights_digest": self.weights_digest}.items():
            if not re.fullmatch("(?:[0-9a-f]{64})?", digest):
                raise PlanError(f"{what} = {printable(repr(digest), 80)}; needs 64 hexadecimal digits")
        if self.model.from_file != bool(self.weights_digest):
            raise PlanError(
                f'model.weights = "{self.model.weights}" with weights_digest = "{self.weights_digest}"; a digest goes '
                "with weights of a file, and with no other"
            )
        if len(self.normalisation.mean) not in (1, self.channels):
            raise PlanError(f"normalisation has {len(self.normalisation.mean)} means for {self.channels} channels")
        try:
            require_enough(sum(site.train_images for site in self.sites), self.training.batch, self.training.ranks)
        except ValueError as fault:
            raise PlanError(str(fault)) from None
        _ = self.geometry, self.keep_rule
        if self.wire.codec in TRANSFORM_CODECS:
            require_transformable(self.morph.scheme(), self.image)

    @property
    def image(self) -> ImageShape:
        """The shape of every image of the run."""
        return ImageShape(channels=self.channels, height=self.height, width=self.width)

    @property
    def outputs(self) -> Outputs:
        """What the network's outputs stand for."""
        return Outputs(len(self.classes), self.task.kind)

    @property
    def geometry(self) -> MorphGeometry:
        """Blocks and core side for this run's images."""
        return MorphGeometry.of(self.morph.scheme(), self.image)

    @property
    def label_form(self) -> LabelForm:
        """How what a training sample is travels."""
        return LabelForm(self.task.kind, len(self.classes))

    @property
    def keep_rule(self) -> KeepRule:
        """Which epoch's network is kept, and when training ends early."""
        return keep_rule(self, validated=any(site.val_images for site in self.sites))

    @property
    def filters(self) -> int:
        """Output channels of the first convolution."""
        return self.model.filters

    @property
    def layer_dtype(self) -> str:
        """Of the augmented layers on the wire and on the disk: `coded`, `int8`, `f16` or `f32`."""
        if self.morph.scheme().ensemble is not Ensemble.ORTHOGONAL:
            return "f32"
        return "int8" if self.wire.layer == "coded" and not self.coefficient_layers else self.wire.layer

    @property
    def coefficient_layers(self) -> bool:
        """Whether the layers that travel are for coefficients: their sites know the basis, the coordinator does not."""
        return self.wire.codec in TRANSFORM_CODECS and self.custody is Custody.SITE

    @property
    def session(self) -> bytes:
        """Separates this run's cores from those that the same key makes in another."""
        return self.run_id.encode()

    def site(self, name: str) -> SitePlan:
        """A site's part. Raises PlanError: the plan has no such site."""
        try:
            return self._by_name[name]
        except KeyError:
            text = f"the plan has no site {name!r}; it has {some_of(self._by_name)}"
            raise PlanError(text) from None

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, UTF-8. Equal plans give equal bytes."""
        return self._json

    def sha256(self) -> bytes:
        """SHA-256 of `to_json`, 32 bytes."""
        return self._sha256

    @classmethod
    def from_json(cls, text: bytes) -> RunPlan:
        """Read a plan back; equal texts one after another are read once a process.

        Raises PlanError: the text is no plan, lacks a field, has unknown ones, or contradicts itself.
        """
        return _newest.get(text, lambda: _read(text))

    @cached_property
    def _by_name(self) -> dict[str, SitePlan]:
        return {site.name: site for site in self.sites}

    @cached_property
    def _json(self) -> bytes:
        return canonical_json(self)

    @cached_property
    def _sha256(self) -> bytes:
        return hashlib.sha256(self._json).digest()


_newest: Common[bytes, RunPlan] = Common()


def _read(text: bytes) -> RunPlan:
    try:
        raw = read_json(text, "the text")
        plan = settings_from(RunPlan, raw, where="plan")
        missing = [section.name for section in dataclasses.fields(RunPlan) if section.name not in raw]
    except (ValueError, TypeError, AttributeError) as fault:
        raise PlanError(f"this is no run plan: {fault}") from None
    if missing:
        raise PlanError(f"this is no run plan: {missing[0]} is missing")
    return plan
