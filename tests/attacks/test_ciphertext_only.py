"""Morphed pictures and public ones of the same kind are enough for tiles; pictures of another kind are not."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch

from mple.attacks import ciphertext_only, label_order, tile_maps
from mple.attacks.lab.attack import AttackSettings, DoesNotApplyError, Finding
from mple.attacks.label_order import best_assignment
from mple.attacks.means.block_moments import links_of, measure_moments
from mple.attacks.means.blocks import blocks_of
from mple.attacks.means.rotation_fit import agreement, fit_rotations
from mple.morph import Cores
from mple.plan import MorphSettings, TaskKind, TaskSettings
from mple.privacy.picture_scores import ssim
from tests.support.lopsided_pictures import lopsided_pixels
from tests.support.morphed_world import MorphedWorld, morphed_world, natural_pixels

SETTINGS = AttackSettings(site="north", pictures=40)


@cache
def seeded_world(*, preset: str = "compact", seed: int = 1, codec: str = "q6") -> MorphedWorld:
    public = lopsided_pixels(1000, side=24, seed=5)
    pixels, morph = lopsided_pixels(2000, side=24, seed=6), MorphSettings(preset=preset, tile=8)
    return morphed_world(pixels, public_PCHW=public, morph=morph, seed=seed, codec=codec)


@cache
def opened(*, preset: str = "compact", seed: int = 1) -> float:
    """Mean SSIM of what an outsider brings out of such a world."""
    world = seeded_world(preset=preset, seed=seed)
    return mean_ssim(world, ciphertext_only.run(world.outsider("north"), SETTINGS))


def mean_ssim(world: MorphedWorld, finding: Finding) -> float:
    recovered = finding.recovered[-1]
    real = world.truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return float(ssim(recovered.pixels_NCHW, real).mean())


@pytest.mark.parametrize(("preset", "least"), [("compact", 0.55), ("distinct", 0.4)])
def test_tiles_fall_to_moments(preset: str, least: float) -> None:
    assert opened(preset=preset) > least


def test_public_pictures_of_another_kind_do_not_help() -> None:
    world = seeded_world()
    noise = np.random.default_rng(1).integers(0, 256, world.public_PCHW.shape).astype(np.uint8)
    view = dataclasses.replace(world.outsider("north"), public_PCHW=noise)
    assert mean_ssim(world, ciphertext_only.run(view, SETTINGS)) < 0.2


def test_a_dozen_pictures_are_refused_and_uniform_cores_too() -> None:
    world = morphed_world(natural_pixels(24), morph=MorphSettings(tile=8))
    with pytest.raises(DoesNotApplyError, match="12 morphed"):
        ciphertext_only.run(world.outsider("north"), SETTINGS)
    uniform = morphed_world(natural_pixels(80), morph=MorphSettings(preset="mole"))
    with pytest.raises(DoesNotApplyError, match="uniform"):
        ciphertext_only.run(uniform.outsider("north"), SETTINGS)


@pytest.mark.parametrize("cores", list(Cores))
def test_the_true_rotation_is_found_and_agrees_best(cores: Cores) -> None:
    """Equal pictures on both sides: nothing but the key is unknown."""
    world = morphed_world(natural_pixels(1200, seed=6), morph=MorphSettings(preset="distinct", tile=8, cores=cores))
    plan, train = world.plan, world.truth.sites["north"].train
    links = links_of(plan.morph.scheme(), plan.geometry)
    pixels = torch.from_numpy(train.pixels_NCHW).float() / 64 - 2
    blocks = blocks_of(pixels, plan)
    given = measure_moments(blocks, links, components=24)
    found = measure_moments(torch.from_numpy(world.truth.morpher("north").morph(pixels.numpy())), links, components=24)
    turn_GRR = fit_rotations(given, found, links)
    signs = torch.diagonal(turn_GRR, dim1=1, dim2=2).abs()
    assert float(signs.min()) > 0.99  # eigenvectors are those of one matrix: signs alone were open
    flipped = turn_GRR.clone()
    flipped[:, :, 3] *= -1
    assert agreement(turn_GRR, given, found, links) > agreement(flipped, given, found, links)
    assert torch.allclose(turn_GRR @ turn_GRR.mT, torch.eye(24).expand_as(turn_GRR), atol=1e-4)


def test_tiles_show_brightness_without_any_key() -> None:
    for preset in ("compact", "distinct"):
        world = morphed_world(natural_pixels(600, seed=3), morph=MorphSettings(preset=preset, tile=8), codec="q6")
        finding = tile_maps.run(world.outsider("north"), SETTINGS)
        scored = {one.name: one.value for one in tile_maps.score(finding, world.truth)}
        assert abs(float(scored["brightness of tiles: correlation with tile means"])) > 0.9, preset
    whole = morphed_world(natural_pixels(40), morph=MorphSettings(preset="paper"))
    with pytest.raises(DoesNotApplyError, match="no tiles"):
        tile_maps.run(whole.outsider("north"), SETTINGS)


def test_labels_are_named_by_what_classes_look_like() -> None:
    """Classes differ in brightness at one side; with labels that say nothing the order is not found."""
    labels = np.random.default_rng(2).integers(0, 4, 3000)
    pixels = shaded(natural_pixels(3000, seed=8), labels)
    public_labels = np.random.default_rng(3).integers(0, 4, 1500)
    public = shaded(natural_pixels(1500, seed=9), public_labels)
    world = morphed_world(pixels, labels, morph=MorphSettings(tile=8), codec="q6", public_PCHW=public, classes=4)
    view = dataclasses.replace(world.outsider("north"), public_labels_P=public_labels)
    finding = label_order.run(view, SETTINGS)
    assert label_order.score(finding, world.truth)[0].value == "4 of 4"
    with pytest.raises(DoesNotApplyError, match="with their labels"):
        label_order.run(world.outsider("north"), SETTINGS)
    several = dataclasses.replace(view.plan, task=TaskSettings(kind=TaskKind.LABELS))
    with pytest.raises(DoesNotApplyError, match="for a task of classes"):
        label_order.run(dataclasses.replace(view, plan=several), SETTINGS)


def shaded(pixels_NCHW: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """A quarter of each picture is brighter, which one the class says."""
    wide = pixels_NCHW.astype(np.int64)
    for label, (down, right) in enumerate(((0, 0), (0, 8), (8, 0), (8, 8))):
        wide[labels_N == label, :, down : down + 8, right : right + 8] += 25
    return np.clip(wide, 0, 255).astype(np.uint8)


def test_the_best_assignment_is_the_best() -> None:
    dice = np.random.default_rng(4)
    for size in (1, 2, 5, 7):
        cost = dice.normal(size=(size, size))
        order = best_assignment(cost)
        assert sorted(order.tolist()) == list(range(size))
        least = min(cost[np.arange(size), list(one)].sum() for one in permutations(range(size)))
        assert cost[np.arange(size), order].sum() == pytest.approx(least)


def test_nothing_depends_on_the_key() -> None:
    """The same pictures under another key give the same recovered pictures, near enough."""
    means = [opened(seed=seed) for seed in (1, 2)]
    worlds = [seeded_world(seed=seed) for seed in (1, 2)]
    assert worlds[0].truth.sites["north"].key != worlds[1].truth.sites["north"].key
    assert min(means) > 0.5 and means[0] == pytest.approx(means[1], abs=0.05)
