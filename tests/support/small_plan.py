"""A plan small enough for tests of single parts: two sites, three classes, images of 1 x 8 x 8 in four tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from mple.model.stem import planned_stem
from mple.morph import MorphKey
from mple.plan import (
    Custody,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    RunPlan,
    SitePlan,
    TaskSettings,
    TrainingSettings,
    WireSettings,
)
from mple.v1 import common_pb2

CLASSES = ("cyst", "normal", "tumour")
TRAIN, VAL, TEST = common_pb2.SPLIT_TRAIN, common_pb2.SPLIT_VAL, common_pb2.SPLIT_TEST
CACHE_SECRET = bytes(range(32))
"""Of a compute node's vault."""
SIZES = {"north": (5, 3), "south": (4, 2)}
"""Train and test images of each site."""


def key_of(site: str) -> MorphKey:
    """The same key for the same name."""
    return MorphKey(hashlib.sha256(b"key of " + site.encode()).digest())


def key_ref(site: str) -> common_pb2.KeyRef:
    """Names the key of a site of the plan."""
    return common_pb2.KeyRef(site=site, epoch=1, fingerprint=key_of(site).fingerprint())


def small_plan(
    *,
    run_id: str = "small-run",
    sizes: Mapping[str, tuple[int, int]] | None = None,
    vals: Mapping[str, int] | None = None,
    keys: Mapping[str, MorphKey] | None = None,
    classes: tuple[str, ...] = CLASSES,
    custody: Custody = Custody.SITE,
    morph: MorphSettings | None = None,
    wire: WireSettings | None = None,
    model: ModelSettings | None = None,
    training: TrainingSettings | None = None,
    normalisation: NormalisationSettings | None = None,
    task: TaskSettings | None = None,
    channels: int = 1,
    side_px: int = 8,
) -> RunPlan:
    """The plan; its stem has eight filters, and each site the key of its name, unless the model or `keys` say else.

    `vals` are the sites' validation images, by default none.
    """
    model = model or ModelSettings(width=0.125)
    filters = max(8, round(64 * model.width))
    own = ModelSettings(kernel=model.kernel, stem_mirrored=model.stem_mirrored) if model.stem_offered else model
    stem = planned_stem(own, filters=filters, channels=channels)
    sites = tuple(
        SitePlan(
            name=name,
            train_images=train,
            test_images=test,
            val_images=(vals or {}).get(name, 0),
            key_epoch=1,
            key_fingerprint=(keys[name] if keys else key_of(name)).fingerprint().hex(),
        )
        for name, (train, test) in (sizes or SIZES).items()
    )
    return RunPlan(
        run_id=run_id,
        consortium="test",
        compute="compute",
        channels=channels,
        height=side_px,
        width=side_px,
        classes=classes,
        sites=sites,
        custody=custody,
        stem_digest=stem.digest().hex(),
        weights_digest="0d" * 32 if model.from_file else "",
        morph=morph or MorphSettings(tile=4),
        wire=wire or WireSettings(codec="q6"),
        model=model,
        training=training or TrainingSettings(),
        normalisation=normalisation or NormalisationSettings(),
        task=task or TaskSettings(),
    )
