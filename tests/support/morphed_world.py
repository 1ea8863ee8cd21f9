"""A run without a run: plan, sites, keys, layers and codes of given pictures, as the wire would carry them.

`morphed_world(pixels, labels)` gives it; its methods give each adversary's view; feed attacks nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mple.attacks.lab.adversary import (
    ColludingCompute,
    ComputeNode,
    ComputeNodeWithStem,
    KnownPairs,
    MorphedPictures,
    Outsider,
    OutsiderWithPairs,
    without_stem,
)
from mple.attacks.lab.ground_truth import GroundTruth, SiteTruth
from mple.attacks.means.layer_blocks import with_unused_rows
from mple.data import LabelledImages
from mple.data.normalise import normalise
from mple.model.stem import Stem, planned_stem
from mple.morph import MorphKey, draw_order
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.basis import Basis
from mple.plan import (
    ModelSettings,
    MorphSettings,
    RunPlan,
    WireSettings,
)
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from mple.wire.layer_dtype import tensors_of, weight_of
from mple.wire.transform_codec import TransformCodec
from provider_node.keys.key_basis import fitted_basis
from tests.support.small_plan import small_plan

NAMES = ("north", "south")


def natural_pixels(count: int, *, channels: int = 3, side: int = 16, seed: int = 1) -> NDArray[np.uint8]:
    """Pictures whose spectrum falls as 1/f, as that of natural ones does, with edges and correlated colours."""
    dice = np.random.default_rng(seed)
    down, right = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    falling = (1 / np.maximum(np.hypot(down, right), 1 / side)).astype(np.float32)

    def coloured(channels: int) -> NDArray[np.float32]:
        white = dice.standard_normal((count, channels, side, side)).astype(np.float32)
        filtered: NDArray[np.float32] = np.fft.irfft2(np.fft.rfft2(white) * falling, s=(side, side))
        return filtered

    grey, colour = coloured(1), coloured(channels)
    mixed = grey + 0.4 * colour + 0.8 * np.sign(np.roll(grey, 3, axis=3) - 0.3)
    mixed *= np.exp(dice.normal(0, 0.4, (count, 1, 1, 1)))
    pixels: NDArray[np.uint8] = np.clip(128 + 45 * mixed / mixed.std(), 0, 255).astype(np.uint8)
    return pixels


@dataclass(frozen=True, kw_only=True)
class MorphedWorld:
    """What the parties of a run would hold."""

    truth: GroundTruth
    sites: dict[str, MorphedPictures]
    layers: dict[str, AugmentedLayer]
    public_PCHW: NDArray[np.uint8]

    @property
    def plan(self) -> RunPlan:
        return self.truth.plan

    def outsider(self, site: str) -> Outsider:
        return Outsider(plan=without_stem(self.plan), morphed=self.sites[site], public_PCHW=self.public_PCHW)

    def outsider_with_pairs(self, site: str, pairs: int) -> OutsiderWithPairs:
        """The site's first pictures are known, the others are not."""
        morphed, train = self.sites[site], self.truth.sites[site].train
        rest = MorphedPictures(
            site=site,
            numbers_N=morphed.numbers_N[pairs:],
            t_NKQ=morphed.t_NKQ[pairs:],
            labels_N=morphed.labels_N[pairs:],
        )
        known = KnownPairs(pixels_NCHW=train.pixels_NCHW[:pairs], t_NKQ=morphed.t_NKQ[:pairs])
        return OutsiderWithPairs(plan=without_stem(self.plan), morphed=rest, public_PCHW=self.public_PCHW, pairs=known)

    def compute_node(self) -> ComputeNode:
        return ComputeNode(
            plan=without_stem(self.plan), sites=self.sites, layers=self.layers, public_PCHW=self.public_PCHW
        )

    def compute_node_with_stem(self, stem: Stem | None = None) -> ComputeNodeWithStem:
        return ComputeNodeWithStem(
            plan=self.plan,
            sites=self.sites,
            layers=self.layers,
            public_PCHW=self.public_PCHW,
            stem=stem or self.truth.stem,
        )

    def colluding_compute(self, colluder: str) -> ColludingCompute:
        return ColludingCompute(
            plan=without_stem(self.plan),
            sites=self.sites,
            layers=self.layers,
            public_PCHW=self.public_PCHW,
            colluder=colluder,
            key=self.truth.sites[colluder].key,
            key_epoch=1,
            basis=self.truth.sites[colluder].basis,
            channel_order_F=self.truth.channel_order_F,
        )


def morphed_world(
    pixels_NCHW: NDArray[np.uint8] | None = None,
    labels_N: NDArray[np.int64] | None = None,
    *,
    morph: MorphSettings | None = None,
    codec: str = "f32",
    layer: str = "f32",
    width: float = 0.25,
    kernel: int = 3,
    public_PCHW: NDArray[np.uint8] | None = None,
    classes: int = 3,
    seed: int = 1,
) -> MorphedWorld:
    """Two sites share the pictures, the first half goes to `north`."""
    pixels = natural_pixels(80, seed=seed) if pixels_NCHW is None else pixels_NCHW
    labels = np.random.default_rng(seed).integers(0, classes, len(pixels)) if labels_N is None else labels_N
    _, channels, side_px, _ = pixels.shape
    model = ModelSettings(width=width, kernel=kernel)
    stem = planned_stem(model, filters=model.filters, channels=channels)
    secret = hashlib.sha256(b"consortium %d" % seed).digest()
    keys = {name: MorphKey(hashlib.sha256(f"{name} {seed}".encode()).digest()) for name in NAMES}
    halves = dict(zip(NAMES, np.array_split(np.arange(len(pixels)), 2), strict=True))
    plan = small_plan(
        run_id="attacked",
        sizes={name: (len(half), 0) for name, half in halves.items()},
        keys=keys,
        classes=tuple(f"class {number}" for number in range(classes)),
        morph=morph or MorphSettings(),
        wire=WireSettings(codec=codec, layer=layer),
        model=model,
        channels=channels,
        side_px=side_px,
    )
    held = {name: LabelledImages(pixels[part], labels[part]) for name, part in halves.items()}
    transform, bases = codec_named(codec), dict[str, Basis]()
    if isinstance(transform, TransformCodec):
        bases = {name: fitted_basis(plan, keys[name], 1, held[name], transform) for name in NAMES}
    truth = GroundTruth(
        plan=plan,
        sites={name: SiteTruth(train=held[name], key=keys[name], key_epoch=1, basis=bases.get(name)) for name in NAMES},
        stem=stem,
        channel_order_F=draw_order(secret, "channel order", plan.filters),
        label_order=draw_order(secret, "label order", classes),
    )
    public = (
        natural_pixels(100, channels=channels, side=side_px, seed=seed + 99) if public_PCHW is None else public_PCHW
    )
    return MorphedWorld(
        truth=truth,
        sites={name: _travelled(truth, name) for name in NAMES},
        layers={name: _layer(truth, name) for name in NAMES},
        public_PCHW=public,
    )


def _travelled(truth: GroundTruth, site: str) -> MorphedPictures:
    plan, train, basis = truth.plan, truth.sites[site].train, truth.sites[site].basis
    codec = codec_named(plan.wire.codec)
    if basis is not None:
        codec = codec.fitted(Coding.from_bytes(basis.coding, cores=basis.cores, core_side=basis.core_side))
    coded = codec.encode(truth.morpher(site).morph(normalise(train.pixels_NCHW, plan.normalisation)))
    t_NKE = torch.from_numpy(codec.decode(coded, plan.geometry.blocks))
    return MorphedPictures(
        site=site,
        numbers_N=np.arange(len(train)),
        t_NKQ=functional.pad(t_NKE, (0, plan.geometry.core_side - t_NKE.shape[2])),
        labels_N=np.argsort(truth.label_order)[train.labels],
    )


def _layer(truth: GroundTruth, site: str) -> AugmentedLayer:
    plan = truth.plan
    layer = build_augmented_layer(
        plan.morph.scheme(),
        plan.image,
        truth.stem.kernels_FCpp,
        truth.sites[site].key,
        truth.channel_order_F,
        session=plan.session,
        key_epoch=1,
        basis=truth.sites[site].basis,
    )
    weight = weight_of(tensors_of(layer.weight, plan.layer_dtype), plan.layer_dtype)
    return with_unused_rows(dataclasses.replace(layer, weight=weight))
