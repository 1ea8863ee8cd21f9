"""Two sites' layers translate between them, and one site's key opens all; not so where the channel orders differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mple.attacks import collusion, translation
from mple.attacks.lab.attack import AttackSettings, DoesNotApplyError, Finding
from mple.morph import Cores, MorphKey
from mple.morph.augmented import build_augmented_layer
from mple.plan import MorphSettings
from mple.privacy.picture_scores import ssim
from tests.support.morphed_world import MorphedWorld, morphed_world

SETTINGS = AttackSettings(site="north", pictures=12)
MORPHS = {
    "compact": MorphSettings(tile=8),
    "distinct": MorphSettings(preset="distinct", tile=8),
    "one core": MorphSettings(preset="paper"),
    "three identical": MorphSettings(preset="paper", kappa=3, cores=Cores.IDENTICAL),
}


def errors(world: MorphedWorld, finding: Finding) -> list[float]:
    return [float(one.value) for one in translation.score(finding, world.truth)]


def mean_ssim(world: MorphedWorld, finding: Finding) -> float:
    recovered = finding.recovered[-1]
    real = world.truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return float(ssim(recovered.pixels_NCHW, real).mean())


def right_places(world: MorphedWorld, finding: Finding) -> int:
    return int(np.sum(finding.channel_order_F == world.truth.channel_order_F))


@pytest.mark.parametrize("morph", MORPHS.values(), ids=MORPHS)
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_translation(morph: MorphSettings, width: float) -> None:
    world = morphed_world(morph=morph, width=width)
    assert max(errors(world, translation.run(world.compute_node(), SETTINGS))) < 1e-5


def test_translation_by_rounded_layers() -> None:
    world = morphed_world(layer="int8", width=1.0)
    matrix, pictures = errors(world, translation.run(world.compute_node(), SETTINGS))
    assert 1e-5 < matrix < 1e-2
    assert pictures < 1e-2


def test_no_translation_between_layers_in_different_orders() -> None:
    world = morphed_world()
    truth = world.truth
    other = build_augmented_layer(
        truth.plan.morph.scheme(),
        truth.plan.image,
        truth.stem.kernels_FCpp,
        truth.sites["south"].key,
        np.roll(truth.channel_order_F, 1),
        session=truth.plan.session,
        key_epoch=1,
    )
    view = dataclasses.replace(world.compute_node(), layers={"north": world.layers["north"], "south": other})
    assert min(errors(world, translation.run(view, SETTINGS))) > 0.3


def test_translation_needs_another_site() -> None:
    world = morphed_world()
    view = dataclasses.replace(world.compute_node(), sites={"north": world.sites["north"]})
    with pytest.raises(DoesNotApplyError):
        translation.run(view, SETTINGS)


@pytest.mark.parametrize("morph", MORPHS.values(), ids=MORPHS)
@pytest.mark.parametrize("kernel", [3, 5])
def test_collusion(morph: MorphSettings, kernel: int) -> None:
    world = morphed_world(morph=morph, kernel=kernel)
    finding = collusion.run(world.colluding_compute("south"), SETTINGS)
    assert float(collusion.score(finding, world.truth)[0].value) < 1e-5
    assert right_places(world, finding) == world.plan.filters
    assert mean_ssim(world, finding) > 0.9999


def test_collusion_by_rounded_layers_and_codes() -> None:
    world = morphed_world(codec="q6", layer="int8", width=1.0)
    finding = collusion.run(world.colluding_compute("south"), SETTINGS)
    assert float(collusion.score(finding, world.truth)[0].value) < 1e-2
    assert mean_ssim(world, finding) > 0.97


def test_a_key_that_is_not_the_colluders_opens_nothing() -> None:
    world = morphed_world()
    view = dataclasses.replace(world.colluding_compute("south"), key=MorphKey(bytes(32)))
    finding = collusion.run(view, SETTINGS)
    assert float(collusion.score(finding, world.truth)[0].value) > 0.3
    assert mean_ssim(world, finding) < 0.3


def test_the_colluder_is_not_attacked_with_its_own_key() -> None:
    with pytest.raises(DoesNotApplyError):
        collusion.run(morphed_world().colluding_compute("north"), SETTINGS)


def test_the_translation_turns_orthogonal_cores_into_orthogonal_ones() -> None:
    world = morphed_world()
    matrix = translation.translation(world.layers["north"], world.layers["south"])[0]
    assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix), dtype=matrix.dtype), atol=1e-5)
