"""From configuration and profiles to the plan: the same every time, and refusals that name the way out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from coordinator.memory.layer_store import check_begin
from coordinator.plan_maker import layer_weight_bytes, make_plan
from mple.model.stem import Stem
from mple.morph import Cores
from mple.plan import (
    Augment,
    CoordinatorSettings,
    Custody,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    PlanError,
    RunPlan,
    TrainingSettings,
    WeightsFrom,
    WireSettings,
)
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire.names import LAYER_DTYPES
from tests.support.small_run import (
    SITES,
    begin_of,
    layer_bytes,
    layer_for,
    plan_for,
    refused,
    settings_in,
    site_profile,
    stem_for,
)


def profiles(**changes: object) -> dict[str, coordinator_pb2.SiteProfile]:
    return {name: site_profile(name, **changes) for name in SITES}


def made(
    settings: CoordinatorSettings,
    site_profiles: dict[str, coordinator_pb2.SiteProfile] | None = None,
    offered: Stem | None = None,
    weights_digest: bytes = b"",
) -> tuple[RunPlan, Stem]:
    return make_plan(
        settings,
        site_profiles or profiles(),
        consortium="test",
        run_id="abc123",
        offered=offered,
        weights_digest=weights_digest,
    )


def test_plan_is_the_same_whatever_the_order_of_joining(tmp_path: Path) -> None:
    plan, stem = made(settings_in(tmp_path))
    again, _ = made(settings_in(tmp_path / "elsewhere"), dict(reversed(profiles().items())))
    assert again.to_json() == plan.to_json()
    assert [site.name for site in plan.sites] == list(SITES)
    assert RunPlan.from_json(plan.to_json()) == plan
    assert plan.stem_digest == stem.digest().hex() == stem_for().digest().hex()


def test_every_reader_of_the_plan_hashes_the_same(tmp_path: Path) -> None:
    plan, _ = made(settings_in(tmp_path), profiles(classes=("gutartig", "bösartig")))
    text = plan.to_json()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode() == text
    assert RunPlan.from_json(text).sha256() == plan.sha256() == hashlib.sha256(text).digest()


@pytest.mark.parametrize("custody", Custody)
def test_plan_holds_what_the_parties_brought(tmp_path: Path, custody: Custody) -> None:
    changed = profiles()
    changed["south"].train_images = 77
    plan, _ = made(settings_in(tmp_path, custody=custody), changed)
    assert (plan.custody, plan.compute, plan.consortium, plan.run_id) == (custody, "compute", "test", "abc123")
    assert [site.train_images for site in plan.sites] == [10, 77, 10]
    assert (plan.channels, plan.height, plan.width, plan.classes) == (1, 28, 28, ("benign", "malignant"))
    assert plan.site("south").key_fingerprint == changed["south"].key_ref.fingerprint.hex()


def test_any_change_changes_the_hash(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    hashes = {
        made(settings)[0].sha256(),
        made(settings, profiles(train_images=11))[0].sha256(),
        made(dataclasses.replace(settings, model=ModelSettings(width=0.125, stem="seed", stem_seed="x")))[0].sha256(),
        made(dataclasses.replace(settings, training=dataclasses.replace(settings.training, seed=2)))[0].sha256(),
        made(settings_in(tmp_path, custody=Custody.ESCROW))[0].sha256(),
    }
    assert len(hashes) == 5


def test_kappa_that_does_not_divide_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="kappa = 9 does not divide the unrolled length 784; near it 4, 7, 8, 14 do"):
        made(settings_in(tmp_path, morph=MorphSettings(preset="paper", kappa=9)))


def test_layer_beyond_any_machine_names_the_tiled_layout(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, morph=MorphSettings(preset="paper"))
    full = dataclasses.replace(settings, model=dataclasses.replace(settings.model, width=1.0))
    for numbers in LAYER_DTYPES:  # however few bytes travel: it is applied as float32 or bfloat16
        numbered = dataclasses.replace(full, wire=WireSettings(codec="q6", layer=numbers))
        with pytest.raises(PlanError, match=r'1801 GiB; choose the tiled layout \(morph.preset = "compact"\)'):
            made(numbered, profiles(channels=3, height=224, width=224))


@pytest.mark.parametrize(
    ("preset", "layer", "value_bytes"),
    [("compact", "f16", 2), ("compact", "f32", 4), ("distinct", "f16", 2), ("mole", "f16", 4), ("mole", "f32", 4)],
)
def test_a_layer_file_has_the_bytes_that_the_plan_says(
    tmp_path: Path, preset: str, layer: str, value_bytes: int
) -> None:
    """Uniform cores are float32 whatever is set; the file is that much and a small header, so it may be announced."""
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="q6", layer=layer))
    made_layer = layer_for(plan, "north")
    assert layer_weight_bytes(plan) == (value_bytes * made_layer.weight.size,) * 2
    data = layer_bytes(made_layer, tmp_path, plan.layer_dtype)
    check_begin(plan, "north", begin_of(plan, "north", data))
    other = layer_bytes(made_layer, tmp_path, {2: "f32", 4: "f16"}[value_bytes])
    with refused(ErrorCode.LAYER_REJECTED, f"layer file of {len(other)} bytes"):
        check_begin(plan, "north", begin_of(plan, "north", other))


def test_a_compact_layer_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    full = dataclasses.replace(settings, model=dataclasses.replace(settings.model, width=1.0))
    for side_px in (32, 224):
        plan, _ = made(full, profiles(channels=3, height=side_px, width=side_px))
        assert layer_weight_bytes(plan) == (2 * 3 * 64 * 64 * 10 * 10,) * 2


def test_distinct_tiles_beyond_any_machine_are_refused_as_well(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, morph=MorphSettings(tile=56, cores=Cores.DISTINCT))
    full = dataclasses.replace(settings, model=dataclasses.replace(settings.model, width=1.0))
    with pytest.raises(PlanError, match="choose the tiled layout"):
        made(full, profiles(channels=3, height=224, width=224))


@pytest.mark.parametrize(("height", "width"), [(27, 28), (28, 225)])
def test_images_that_the_trunk_does_not_take_are_refused_before_anybody_builds(
    tmp_path: Path, height: int, width: int
) -> None:
    with pytest.raises(PlanError, match=rf"{height} x {width} pixels; vgg16 takes 28 to 224 a side"):
        made(settings_in(tmp_path), profiles(height=height, width=width))


def test_border_wider_than_half_the_kernel_is_refused_before_anybody_builds(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"morph.border = 1 is wider than half of model.kernel = 1"):
        made(settings_in(tmp_path, morph=MorphSettings(preset="mole"), kernel=1))


def test_normalisation_for_other_channels_is_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(
        settings_in(tmp_path), normalisation=NormalisationSettings(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    )
    with pytest.raises(PlanError, match="3 means for 1 channels"):
        made(settings)


def test_plan_that_fits_no_message_is_refused(tmp_path: Path) -> None:
    names = tuple(f"{number:05d}" + "ä" * 100 for number in range(1000))
    with pytest.raises(PlanError, match="shorten the names of its 1000 classes"):
        made(settings_in(tmp_path), profiles(classes=names))


def test_offered_stem_is_planned(tmp_path: Path) -> None:
    offered = stem_for("another")
    plan, stem = made(settings_in(tmp_path, stem="offered"), offered=offered)
    assert plan.stem_digest == offered.digest().hex()
    assert stem is offered


@pytest.mark.parametrize(
    ("filters", "channels", "kernel", "text"),
    [
        (8, 3, 3, "pictures of 3 channels, the sites' have 1 channel; bring pictures of 3"),
        (64, 1, 3, "64 filters, the network of model.width = 0.125 takes 8; set model.width = 1"),
        (16, 1, 3, "16 filters, .* takes 8; set model.width to that of the network"),
        (8, 1, 5, "side of 5 pixels, model.kernel = 3; set model.kernel = 5"),
    ],
)
def test_offered_stem_that_does_not_fit_is_refused(
    tmp_path: Path, filters: int, channels: int, kernel: int, text: str
) -> None:
    offered = Stem.from_seed("another", filters=filters, channels=channels, kernel=kernel)
    with refused(ErrorCode.STEM_REJECTED, text):
        made(settings_in(tmp_path, stem="offered"), offered=offered)


def test_an_offered_stem_that_cannot_mirror_is_refused_where_the_plan_mirrors(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path, stem="offered", training=TrainingSettings(augment=(Augment.MIRROR,)), mirrored=True
    )
    with refused(ErrorCode.STEM_REJECTED, "lacks the mirror image of kernel 0"):
        made(settings, offered=stem_for("another"))
    closed = Stem.from_seed("another", filters=8, channels=1, kernel=3, mirrored=True)
    assert made(settings, offered=closed)[1] is closed


def test_weights_from_a_file_are_planned_with_their_stem(tmp_path: Path) -> None:
    """Kernels of three channels are summed for grey pictures, of four are not; the file's digest stands in the plan."""
    model = ModelSettings(width=0.125, weights=WeightsFrom.FEATURES)
    settings = dataclasses.replace(settings_in(tmp_path), model=model)
    colours = Stem.from_seed("another", filters=8, channels=3, kernel=3)
    plan, stem = made(settings, offered=colours, weights_digest=b"w" * 32)
    assert stem.kernels_FCpp == pytest.approx(colours.kernels_FCpp.sum(axis=1, keepdims=True), abs=1e-6)
    assert (plan.stem_digest, plan.weights_digest) == (stem.digest().hex(), b"w".hex() * 32)
    with refused(ErrorCode.STEM_REJECTED, "of 4 channels, .*three channels can be summed for pictures of one"):
        made(settings, offered=Stem.from_seed("x", filters=8, channels=4, kernel=3), weights_digest=b"w" * 32)


def test_missing_offer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MpleError, match="none has been offered"):
        made(settings_in(tmp_path, stem="offered"))
