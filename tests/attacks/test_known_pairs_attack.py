"""Known pairs: the number that determines a core is theory's, one fewer is not enough, and the truth decides both."""

from __future__ import annotations

import numpy as np
import pytest

from mple.attacks import known_pairs
from mple.attacks.lab.attack import AttackSettings, DoesNotApplyError, Finding
from mple.morph import Cores
from mple.plan import MorphSettings
from mple.privacy.picture_scores import ssim
from mple.privacy.protection import pairs_that_open
from tests.support.morphed_world import MorphedWorld, morphed_world, natural_pixels

SETTINGS = AttackSettings(site="north", pictures=8)


def kappa(number: int, cores: Cores = Cores.IDENTICAL) -> MorphSettings:
    return MorphSettings(preset="paper", kappa=number, cores=cores)


def figures(finding: Finding) -> dict[str, float | int | str]:
    return {one.name: one.value for one in finding.figures}


def errors(world: MorphedWorld, finding: Finding) -> dict[str, float]:
    scored = known_pairs.score(finding, world.truth)
    return {one.name: float(one.value) for one in scored if one.name.startswith("worst")}


def mean_ssim(world: MorphedWorld, finding: Finding, way: int = -1) -> float:
    recovered = finding.recovered[way]
    real = world.truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return float(ssim(recovered.pixels_NCHW, real).mean())


@pytest.mark.parametrize(
    ("morph", "expected"),
    [
        (kappa(1), 432),
        (kappa(3), 48),
        (kappa(12), 3),
        (kappa(48), 1),
        (kappa(3, Cores.DISTINCT), 144),
        (MorphSettings(tile=6), 27),
        (MorphSettings(tile=4), 6),
        (MorphSettings(preset="distinct", tile=6), 108),
        (MorphSettings(preset="distinct", tile=4), 48),
    ],
    ids=["1", "3", "12", "48", "3 distinct", "tiles of 6", "of 4", "distinct tiles of 6", "of 4, distinct"],
)
def test_the_threshold_is_theorys(morph: MorphSettings, expected: int) -> None:
    """Of 3 x 12 x 12: q = 432/κ for runs, 3·s² for tiles; ⌈q/κ⌉ pairs with identical cores, q with distinct ones."""
    pixels = natural_pixels(2 * (expected + 30), side=12)
    world = morphed_world(pixels, morph=morph)
    assert pairs_that_open(world.plan) == expected
    finding = known_pairs.run(world.outsider_with_pairs("north", expected + 15), SETTINGS)
    assert figures(finding)["pairs found to determine the cores"] == expected
    worst = errors(world, finding)
    assert worst[f"worst error of a core with {expected:,} pairs"] < 0.5
    if expected > 1:
        assert worst[f"worst error of a core with {expected - 1:,} pairs"] > 0.99
    assert mean_ssim(world, finding) > 0.999


def test_one_pair_fewer_than_the_threshold_is_said_not_to_be_enough() -> None:
    world = morphed_world(natural_pixels(100, side=12), morph=MorphSettings(tile=6))
    finding = known_pairs.run(world.outsider_with_pairs("north", 26), SETTINGS)
    assert figures(finding)["pairs found to determine the cores"] == "more than known"
    enough = known_pairs.run(world.outsider_with_pairs("north", 27), SETTINGS)
    assert mean_ssim(world, finding) < mean_ssim(world, enough)


def test_pictures_that_repeat_others_count_for_nothing() -> None:
    """Grey pictures give one equation where there are three colours, copies give none."""
    pixels = natural_pixels(160, side=12)
    pixels[3:6] = pixels[:3]
    pixels[10] = pixels[10, :1]
    world = morphed_world(pixels, morph=kappa(3))
    finding = known_pairs.run(world.outsider_with_pairs("north", 70), SETTINGS)
    assert figures(finding)["pairs found to determine the cores"] == 48
    assert figures(finding)["pairs passed over, whose blocks repeat others"] == 4


def test_equations_that_grey_pictures_alone_can_not_give() -> None:
    """All pictures grey: three equal blocks in each, so that three times as many are needed."""
    grey = np.repeat(natural_pixels(320, channels=1, side=12), 3, axis=1)
    world = morphed_world(grey, morph=kappa(3))
    finding = known_pairs.run(world.outsider_with_pairs("north", 150), SETTINGS)
    assert figures(finding)["pairs found to determine the cores"] == 144


def test_pairs_of_another_key_open_nothing() -> None:
    """As after a rotation: what was known under the old key says nothing of the new one."""
    world = morphed_world(natural_pixels(100, side=12), morph=MorphSettings(tile=4))
    other = morphed_world(natural_pixels(100, side=12), morph=MorphSettings(tile=4), seed=2)
    view = world.outsider_with_pairs("north", 12)
    mixed = type(view)(
        plan=view.plan,
        morphed=other.outsider_with_pairs("north", 12).morphed,
        public_PCHW=view.public_PCHW,
        pairs=view.pairs,
    )
    assert mean_ssim(other, known_pairs.run(mixed, SETTINGS)) < 0.2


def test_rounded_codes_keep_the_core_uncertain_but_no_picture_secret() -> None:
    world = morphed_world(natural_pixels(200, side=12), morph=MorphSettings(tile=4), codec="q6")
    finding = known_pairs.run(world.outsider_with_pairs("north", 24), SETTINGS)
    assert figures(finding)["pairs found to determine the cores"] == 6
    assert min(errors(world, finding).values()) > 0.1
    assert mean_ssim(world, finding) > 0.95


def test_without_a_pair_it_does_not_apply() -> None:
    with pytest.raises(DoesNotApplyError):
        known_pairs.run(morphed_world().outsider_with_pairs("north", 0), SETTINGS)
