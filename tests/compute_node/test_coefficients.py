"""Keys with bases of different widths beside each other: each sample is kept, decoded and applied in its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compute_node.feeding.accepted_batch import accept_batch
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from compute_node.training.features import features
from mple.model.settings import Precision
from mple.morph import MorphKey
from mple.morph.arithmetic import Arithmetic
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.basis import Basis, fit_directions
from mple.morph.morpher import Morpher, to_blocks
from mple.plan import MorphSettings, RunPlan, TrainingSettings, WireSettings
from mple.records.cache_records import CacheShape
from mple.rpc import ErrorCode, MpleError
from mple.wire.batch import Batch, batch_to_message
from mple.wire.codec import Codec, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from tests.support.small_plan import CACHE_SECRET, TRAIN, key_ref, small_plan

MORPHS = {
    "compact": MorphSettings(tile=4),
    "distinct": MorphSettings(preset="distinct", tile=4),
    "paper": MorphSettings(preset="paper", kappa=4),
}
COLUMNS = {"north": 9, "south": 13}
SITES = tuple(COLUMNS)


class Key:
    """One site's key with its basis, cut to so many columns, its pictures and their codes."""

    def __init__(self, plan: RunPlan, site: str) -> None:
        rng, scheme, image = np.random.default_rng(len(site) + COLUMNS[site]), plan.morph.scheme(), plan.image
        key, about = MorphKey(bytes([COLUMNS[site]]) * 32), {"session": plan.session, "key_epoch": 1}
        self.x_BCHW = rng.normal(size=(5, image.channels, image.height, image.width)).cumsum(3).astype(np.float32)
        if site == "south":  # so that none of its codes are kept in a byte
            self.x_BCHW *= 20
        x_BKQ = to_blocks(self.x_BCHW, scheme, plan.geometry)
        whole = fit_directions(x_BKQ, scheme, image, key, step=1e-3, **about)  # type: ignore[arg-type]
        cut = Basis(whole.synthesis_GdQ[:, : COLUMNS[site]], whole.scales_Gd[:, : COLUMNS[site]])
        self.c_BKd = Morpher(scheme, image, key, basis=cut, **about).morph(self.x_BCHW)  # type: ignore[arg-type]
        c_GRd = list(self.c_BKd.swapaxes(0, 1)) if cut.cores > 1 else [self.c_BKd.reshape(-1, cut.columns)]
        basis = replace(cut, coding=Coding.fit(c_GRd, 2.0**-3).to_bytes())
        stem = rng.normal(size=(plan.filters, image.channels, plan.model.kernel, plan.model.kernel))
        order = rng.permutation(plan.filters)
        self.layer: AugmentedLayer = build_augmented_layer(
            scheme,
            image,
            stem,
            key,
            order,
            basis=basis,
            **about,  # type: ignore[arg-type]
        )
        coding = Coding.from_bytes(basis.coding, cores=basis.cores, core_side=basis.core_side)
        self.codec: Codec = codec_named("k6").fitted(coding)
        self.batch = Batch(self.codec.encode(self.c_BKd), np.arange(5, dtype=np.uint16) % 3)
        self.decoded_BKd = self.codec.decode(self.batch.coded, plan.geometry.blocks)


@pytest.fixture(scope="module", params=list(MORPHS))
def plan(request: pytest.FixtureRequest) -> RunPlan:
    return small_plan(morph=MORPHS[request.param], wire=WireSettings(codec="k6"), side_px=8)


@pytest.fixture(scope="module")
def keys(plan: RunPlan) -> dict[str, Key]:
    return {site: Key(plan, site) for site in SITES}


def bank_of(plan: RunPlan, keys: dict[str, Key], arithmetic: Arithmetic = Arithmetic.F32) -> LayerBank:
    precision = Precision.F32 if arithmetic is Arithmetic.F32 else Precision.BF16
    training = TrainingSettings(precision=precision, layer_arithmetic=arithmetic)
    bank = LayerBank(replace(plan, training=training))
    for site in SITES:
        bank.store(key_ref(site), keys[site].layer)
    return bank


MIXED = np.array([1, 5, 0, 8, 4, 7])
"""Of north 0 to 4, of south from 5 on."""


def mixed(plan: RunPlan, keys: dict[str, Key], path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Samples of both, through messages and the cache; after a restart of it."""
    bank, cache = bank_of(plan, keys), SampleCache(path, CacheShape.of(plan), CACHE_SECRET)
    for number, site in enumerate(SITES):
        one = keys[site]
        count = 5 - number
        coded = EncodedSamples(one.batch.coded.codes_BV[:count], one.batch.coded.exponents_BK[:count])
        batch = Batch(coded, one.batch.labels_B[:count])
        message = batch_to_message(batch, request_id=1, key_ref=key_ref(site), split=TRAIN, codec=one.codec)
        accepted, key = accept_batch(plan, bank, message, site, samples=count, labelled=True)
        assert key == number
        cache.append(TRAIN, np.arange(count) + 5 * number, accepted, key)
    cache = SampleCache(path, CacheShape.of(plan), CACHE_SECRET)
    read = cache.read(TRAIN, MIXED)
    return bank.decoded(read.coded, read.keys_B), read.keys_B


def test_each_sample_is_decoded_by_its_keys_codec(plan: RunPlan, keys: dict[str, Key], tmp_path: Path) -> None:
    c_BKd, keys_B = mixed(plan, keys, tmp_path / "cache")
    assert keys_B.tolist() == [0, 1, 0, 1, 0, 1]
    assert c_BKd.shape == (6, plan.geometry.blocks, 13)
    for row, number in enumerate(MIXED.tolist()):
        site, width = (SITES[number >= 5], COLUMNS[SITES[number >= 5]])
        assert np.array_equal(c_BKd[row, :, :width], keys[site].decoded_BKd[number % 5])
        assert not c_BKd[row, :, width:].any()


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_each_sample_goes_through_its_keys_layer(
    plan: RunPlan, keys: dict[str, Key], arithmetic: Arithmetic, tmp_path: Path
) -> None:
    c_BKd, keys_B = mixed(plan, keys, tmp_path / "cache")
    found = features(torch.from_numpy(c_BKd), keys_B, bank_of(plan, keys, arithmetic).layers).float().numpy()
    due = np.stack([
        keys[site].layer.apply(keys[site].decoded_BKd[number % 5][None].astype(np.float64))[0]
        for number, site in ((number, SITES[number >= 5]) for number in MIXED.tolist())
    ])  # fmt: skip
    error = np.sqrt(np.square(found - due).mean() / np.square(due).mean())
    assert error < (1e-5 if arithmetic is Arithmetic.F32 else 6e-3)


def test_nothing_is_taken_under_a_key_whose_coding_is_not_here(plan: RunPlan, keys: dict[str, Key]) -> None:
    bank, one = LayerBank(plan), keys["north"]
    message = batch_to_message(one.batch, request_id=1, key_ref=key_ref("north"), split=TRAIN, codec=one.codec)
    with pytest.raises(MpleError, match="has no basis here yet") as refused:
        accept_batch(plan, bank, message, "north", samples=5, labelled=True)
    assert refused.value.code is ErrorCode.UNKNOWN_KEY_REF
