"""From received values to features: each sample under the layer of its own site's key, in the order of the step."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from compute_node.layers.layer_bank import LayerBank, UnknownKeyError
from compute_node.training.features import features
from mple.model.first_layer.plain import plain_features
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.model.stem import Stem, planned_stem
from mple.morph import Arithmetic
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import MorphSettings, Precision, RunPlan, TrainingSettings
from mple.plan.orders import channel_order
from mple.v1 import common_pb2
from tests.support.small_plan import key_of, key_ref, small_plan

SECRET = bytes(range(32))
SITES = ("north", "south")
MORPHS = [MorphSettings(tile=4), MorphSettings(preset="distinct", tile=4), MorphSettings(preset="paper")]


def stem_of(plan: RunPlan) -> Stem:
    return planned_stem(plan.model, filters=plan.filters, channels=plan.channels)


def layers_of(plan: RunPlan) -> dict[int, AugmentedLayer]:
    order, stem = channel_order(plan, SECRET), stem_of(plan).kernels_FCpp
    return {
        number: build_augmented_layer(
            plan.morph.scheme(), plan.image, stem, key_of(site), order, session=plan.session, key_epoch=1
        )
        for number, site in enumerate(SITES)
    }


def prepared(plan: RunPlan, arithmetic: Arithmetic = Arithmetic.F32) -> dict[int, PreparedLayer]:
    return {number: prepare_layer(layer, arithmetic) for number, layer in layers_of(plan).items()}


def morphed_by(plan: RunPlan, x_BCHW: torch.Tensor, keys: list[int]) -> torch.Tensor:
    """Each image morphed by the site of its key."""
    rows = []
    for x_CHW, key in zip(x_BCHW, keys, strict=True):
        site = Morpher(plan.morph.scheme(), plan.image, key_of(SITES[key]), session=plan.session, key_epoch=1)
        rows.append(torch.from_numpy(site.morph(x_CHW[None].numpy())))
    return torch.cat(rows)


@pytest.mark.parametrize("morph", MORPHS, ids=lambda morph: morph.preset)
@pytest.mark.parametrize("keys", [[0, 1, 1, 0, 1], [1, 1, 1], [0]])
def test_each_sample_is_read_under_its_own_key(morph: MorphSettings, keys: list[int]) -> None:
    plan = small_plan(morph=morph, channels=2, side_px=10 if morph.preset != "paper" else 8)
    x_BCHW = torch.randn((len(keys), *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    found = features(morphed_by(plan, x_BCHW, keys), np.array(keys), prepared(plan))
    plain = plain_features(stem_of(plan), x_BCHW)[:, channel_order(plan, SECRET)]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5 * float(plain.max() - plain.min()))


@pytest.mark.parametrize("morph", MORPHS, ids=lambda morph: morph.preset)
def test_many_keys_give_bit_for_bit_what_each_gives_alone(morph: MorphSettings) -> None:
    """Of some a sample or two, of others more than are added up together; in all more than at once."""
    plan = small_plan(morph=morph, channels=2, side_px=10 if morph.preset != "paper" else 8)
    two = prepared(plan)
    layers = {key: two[key % 2] for key in range(40)}
    keys_B = np.random.default_rng(5).permutation(np.repeat(np.arange(40), [1, 30, 2, 3, 16] * 8))
    values = (9, 32) if morph.preset != "paper" else (1, 128)
    t_BKQ = torch.randn((len(keys_B), *values), generator=torch.Generator().manual_seed(3))
    found = features(t_BKQ, keys_B, layers)
    for key in range(40):
        assert torch.equal(found[keys_B == key], layers[key].apply(t_BKQ[keys_B == key]))


def plan_shape(plan: RunPlan) -> tuple[int, int, int]:
    return plan.channels, plan.height, plan.width


def test_a_sample_under_the_wrong_layer_shows() -> None:
    plan = small_plan()
    x_BCHW = torch.randn((2, *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    t_BKQ, layers = morphed_by(plan, x_BCHW, [0, 1]), prepared(plan)
    right, wrong = (features(t_BKQ, np.array(keys), layers) for keys in ([0, 1], [1, 0]))
    assert float((right - wrong).norm() / right.norm()) > 0.5


def test_mixed_keys_give_what_each_gives_alone_also_in_half_precision() -> None:
    plan = small_plan()
    x_BCHW = torch.randn((6, *plan_shape(plan)), generator=torch.Generator().manual_seed(3))
    layers = prepared(plan, Arithmetic.BF16)
    t_BKQ = morphed_by(plan, x_BCHW, [0, 1, 0, 1, 0, 1])
    mixed = features(t_BKQ, np.array([0, 1, 0, 1, 0, 1]), layers)
    alone = features(t_BKQ[1::2], np.array([1, 1, 1]), layers)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed[1::2], alone, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("keys", [[0, 0, 0], [1, 0, 1]])
def test_features_come_in_the_order_that_the_trunk_trains_fastest_in(keys: list[int]) -> None:
    plan = small_plan()
    found = features(morphed_by(plan, torch.rand((3, *plan_shape(plan))), keys), np.array(keys), prepared(plan))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("training", "dtype", "layer_bytes"),
    [
        (TrainingSettings(), torch.float32, 4),
        (TrainingSettings(precision=Precision.BF16), torch.bfloat16, 2),
        (TrainingSettings(precision=Precision.BF16, layer_arithmetic=Arithmetic.F32), torch.float32, 4),
    ],
)
def test_the_bank_holds_the_layer_in_the_runs_arithmetic_only(
    training: TrainingSettings, dtype: torch.dtype, layer_bytes: int
) -> None:
    plan = small_plan(training=training)
    bank, layer = LayerBank(plan), layers_of(plan)[0]
    bank.store(key_ref("north"), layer)
    assert bank.layers[0].dtype == dtype
    assert bank.layers[0].held_bytes == layer.weight.size * layer_bytes
    raw_weight = weakref.ref(layer.weight)
    del layer
    assert raw_weight() is None


def test_a_dropped_layer_is_freed() -> None:
    bank = LayerBank(small_plan())
    bank.store(key_ref("north"), layers_of(small_plan())[0])
    held = weakref.ref(bank.layers[0])
    bank.drop(0)
    assert held() is None


def test_no_samples_are_refused() -> None:
    plan = small_plan()
    with pytest.raises(ValueError, match="no samples"):
        features(torch.empty(0, 4, 16), np.empty(0, np.int64), prepared(plan))


def test_the_bank_numbers_keys_in_the_order_of_the_plan() -> None:
    plan = small_plan()
    bank, layers = LayerBank(plan), layers_of(plan)
    assert (bank.number(key_ref("north"), "north"), bank.number(key_ref("south"), "south")) == (0, 1)
    bank.store(key_ref("south"), layers[1])
    assert not bank.complete
    bank.store(key_ref("north"), layers[0])
    assert bank.complete
    assert sorted(bank.layers) == [0, 1]


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
