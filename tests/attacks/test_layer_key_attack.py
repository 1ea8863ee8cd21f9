"""Stem known: channel order, key and pictures fall, for every layout; with a wrong stem nothing does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mple.attacks import feature_maps, layer_key
from mple.attacks.lab.attack import AttackSettings, Finding
from mple.model.stem import Stem
from mple.morph import Cores
from mple.plan import MorphSettings
from mple.privacy.picture_scores import ssim
from tests.support.morphed_world import MorphedWorld, morphed_world, natural_pixels

SETTINGS = AttackSettings(site="north", pictures=12)
MORPHS = {
    "compact": MorphSettings(tile=8),
    "distinct": MorphSettings(preset="distinct", tile=8),
    "one core": MorphSettings(preset="paper"),
    "three distinct": MorphSettings(preset="paper", kappa=3),
    "three identical": MorphSettings(preset="paper", kappa=3, cores=Cores.IDENTICAL),
    "uniform, with a border": MorphSettings(preset="mole"),
}


def mean_ssim(world: MorphedWorld, finding: Finding, way: int = -1) -> float:
    recovered = finding.recovered[way]
    real = world.truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return float(ssim(recovered.pixels_NCHW, real).mean())


def right_places(world: MorphedWorld, finding: Finding) -> int:
    return int(np.sum(finding.channel_order_F == world.truth.channel_order_F))


def figure(finding: Finding, name: str) -> float:
    return float(next(one.value for one in finding.figures if one.name == name))


@pytest.mark.parametrize("morph", MORPHS.values(), ids=MORPHS)
def test_order_key_and_pictures(morph: MorphSettings) -> None:
    world = morphed_world(morph=morph)
    finding = layer_key.run(world.compute_node_with_stem(), SETTINGS)
    assert finding.channel_order_F is not None
    assert finding.channel_order_F.tolist() == world.truth.channel_order_F.tolist()
    real_KQQ = world.truth.inverse_cores("north")
    assert (finding.inverse_cores["north"] - real_KQQ).norm() < 1e-5 * real_KQQ.norm()
    assert mean_ssim(world, finding) > 0.9999


@pytest.mark.parametrize(("channels", "kernel"), [(1, 3), (1, 5), (1, 7), (3, 1), (3, 3), (3, 5), (3, 7)])
def test_every_kernel_on_grey_and_colour(channels: int, kernel: int) -> None:
    """But kernels of one grey pixel, which are all alike, or the negative."""
    world = morphed_world(natural_pixels(24, channels=channels), kernel=kernel)
    finding = layer_key.run(world.compute_node_with_stem(), SETTINGS)
    assert right_places(world, finding) == world.plan.filters
    assert mean_ssim(world, finding) > 0.9999


def test_pictures_that_the_tile_does_not_divide() -> None:
    world = morphed_world(natural_pixels(24, side=19))
    assert mean_ssim(world, layer_key.run(world.compute_node_with_stem(), SETTINGS)) > 0.9999


@pytest.mark.parametrize("attack", [layer_key, feature_maps])
def test_rounding_on_the_wire_does_not_save_anything(attack: object) -> None:
    """As a run sends by default: codes of 6 bits, layers of 8; the last guess has the rounding taken off."""
    world = morphed_world(codec="q6", layer="int8", width=1.0)
    finding = attack.run(world.compute_node_with_stem(), SETTINGS)  # type: ignore[attr-defined]
    assert right_places(world, finding) == world.plan.filters
    assert mean_ssim(world, finding, 0) > 0.97
    assert mean_ssim(world, finding) > mean_ssim(world, finding, 0)


@pytest.mark.parametrize("morph", MORPHS.values(), ids=MORPHS)
def test_feature_maps_alone(morph: MorphSettings) -> None:
    world = morphed_world(morph=morph, width=1.0)
    finding = feature_maps.run(world.compute_node_with_stem(), AttackSettings(site="north", pictures=40))
    assert right_places(world, finding) == world.plan.filters
    assert mean_ssim(world, finding) > 0.999
    assert not finding.inverse_cores


@pytest.mark.parametrize("attack", [layer_key, feature_maps])
def test_a_wrong_stem_gives_nothing_and_says_so(attack: object) -> None:
    world = morphed_world(width=1.0)
    wrong = Stem.from_seed("another", filters=64, channels=3, kernel=3)
    finding = attack.run(world.compute_node_with_stem(wrong), SETTINGS)  # type: ignore[attr-defined]
    assert mean_ssim(world, finding) < 0.3
    assert right_places(world, finding) < 16
    part = "layer" if attack is layer_key else "features"
    assert figure(finding, f"of the {part} unexplained") > 0.1
    right = attack.run(world.compute_node_with_stem(), SETTINGS)  # type: ignore[attr-defined]
    assert figure(right, f"of the {part} unexplained") < 1e-3


def test_the_layer_of_another_site_opens_nothing() -> None:
    """The key is what counts: with a layer that was made under another key, pictures stay morphed."""
    world = morphed_world()
    view = dataclasses.replace(
        world.compute_node_with_stem(), layers={"north": world.layers["south"], "south": world.layers["south"]}
    )
    assert mean_ssim(world, layer_key.run(view, SETTINGS)) < 0.2


def test_no_picture_beyond_what_was_asked_for() -> None:
    world = morphed_world()
    finding = layer_key.run(world.compute_node_with_stem(), SETTINGS)
    assert [len(one.numbers_N) for one in finding.recovered] == [12]
    assert np.isfinite(finding.recovered[0].pixels_NCHW).all()
    assert finding.inverse_cores["north"].dtype == torch.float64
