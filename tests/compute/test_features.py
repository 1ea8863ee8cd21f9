"""From received codes to features: each sample under the layer of its own site's key, in the order of the step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_plan import key_of, key_ref, small_plan

from compute_node.features import features
from compute_node.layer_bank import LayerBank, UnknownKeyError
from compute_node.sample_cache import CachedSamples
from mple.model import Stem
from mple.morph import AugmentedLayer, Morpher, build_augmented_layer
from mple.plan import MorphSettings, RunPlan
from mple.plan.orders import channel_order
from mple.v1 import common_pb2
from mple.wire import EncodedSamples, codec_named

SECRET = bytes(range(32))
SITES = ("north", "south")
MORPHS = [MorphSettings(tile=4), MorphSettings(preset="distinct", tile=4), MorphSettings(preset="paper")]
F32 = codec_named("f32")


def stem_of(plan: RunPlan) -> Stem:
    return Stem.from_seed(plan.model.stem_seed, filters=plan.filters, channels=plan.channels, kernel=3)


def layers_of(plan: RunPlan) -> dict[int, AugmentedLayer]:
    order, stem = channel_order(SECRET, plan.filters), stem_of(plan).kernels_FCpp
    return {
        number: build_augmented_layer(
            plan.morph.scheme(), plan.image, stem, key_of(site), order, session=plan.session, key_epoch=1
        )
        for number, site in enumerate(SITES)
    }


def coded_by(plan: RunPlan, x_BCHW: torch.Tensor, keys: list[int]) -> CachedSamples:
    """Each image morphed by the site of its key."""
    rows = []
    for x_CHW, key in zip(x_BCHW, keys, strict=True):
        site = Morpher(plan.morph.scheme(), plan.image, key_of(SITES[key]), session=plan.session, key_epoch=1)
        rows.append(site.morph(x_CHW[None]).flatten(1))
    coded = F32.encode(torch.cat(rows))
    return CachedSamples(coded, np.zeros(len(keys), np.int64), np.array(keys, np.int64))


@pytest.mark.parametrize("morph", MORPHS, ids=lambda morph: morph.preset)
@pytest.mark.parametrize("keys", [[0, 1, 1, 0, 1], [1, 1, 1], [0]])
def test_each_sample_is_read_under_its_own_key(morph: MorphSettings, keys: list[int]) -> None:
    plan = small_plan(morph=morph, channels=2, side_px=10 if morph.preset != "paper" else 8)
    x_BCHW = torch.randn((len(keys), *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    found = features(coded_by(plan, x_BCHW, keys), layers_of(plan), F32, plan.geometry)
    plain = stem_of(plan).convolve(x_BCHW)[:, channel_order(SECRET, plan.filters)]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5 * float(plain.max() - plain.min()))


def plan_shape(plan: RunPlan) -> tuple[int, int, int]:
    return plan.channels, plan.height, plan.width


def test_a_sample_under_the_wrong_layer_shows() -> None:
    plan = small_plan()
    x_BCHW = torch.randn((2, *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    samples = coded_by(plan, x_BCHW, [0, 1])
    swapped = CachedSamples(samples.coded, samples.labels_B, samples.keys_B[::-1].copy())
    layers = layers_of(plan)
    right, wrong = (features(one, layers, F32, plan.geometry) for one in (samples, swapped))
    assert float((right - wrong).norm() / right.norm()) > 0.5


def test_mixed_keys_give_what_each_gives_alone_also_in_half_precision() -> None:
    plan = small_plan()
    x_BCHW = torch.randn((6, *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    layers = layers_of(plan)
    of_both, of_one = coded_by(plan, x_BCHW, [0, 1, 0, 1, 0, 1]), coded_by(plan, x_BCHW[1::2], [1, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        mixed, alone = (features(samples, layers, F32, plan.geometry) for samples in (of_both, of_one))
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed[1::2], alone, rtol=0.02, atol=0.02)


def test_no_samples_are_refused() -> None:
    plan = small_plan()
    none = CachedSamples(
        EncodedSamples(np.empty(0, np.float32), np.empty((0, 64), np.float32)), np.empty(0, int), np.empty(0, int)
    )
    with pytest.raises(ValueError, match="no samples"):
        features(none, layers_of(plan), F32, plan.geometry)


def test_the_bank_numbers_keys_in_the_order_of_the_plan() -> None:
    plan = small_plan()
    bank, layers = LayerBank(plan), layers_of(plan)
    assert (bank.number(key_ref("north"), "north"), bank.number(key_ref("south"), "south")) == (0, 1)
    bank.store(key_ref("south"), layers[1])
    assert not bank.complete
    bank.store(key_ref("north"), layers[0])
    assert bank.complete
    assert bank.layers == layers


@pytest.mark.parametrize(
    ("key", "site"),
    [
        (key_ref("north"), "south"),
        (common_pb2.KeyRef(site="north", epoch=2, fingerprint=key_ref("north").fingerprint), "north"),
        (common_pb2.KeyRef(site="north", epoch=1, fingerprint=key_ref("south").fingerprint), "north"),
        (common_pb2.KeyRef(site="east", epoch=1, fingerprint=key_ref("north").fingerprint), "east"),
        (common_pb2.KeyRef(), "north"),
    ],
)
def test_a_key_that_is_not_the_sites_in_this_run_is_refused(key: common_pb2.KeyRef, site: str) -> None:
    with pytest.raises(UnknownKeyError, match=f"is not a key of site {site} in this run"):
        LayerBank(small_plan()).number(key, site)
