"""Attacks on runs with a transform codec: coefficients are morphed values under another, nearly orthogonal core."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
import pytest
import torch

from mple.attacks import collusion, few_pictures, known_pairs, layer_key, translation
from mple.attacks.lab.attack import AttackSettings, DoesNotApplyError
from mple.attacks.lab.scoring import score as scored
from mple.attacks.means.band_fit import fit_bands
from mple.attacks.means.picture_prior import measure_prior
from mple.data import LabelledImages
from mple.data.normalise import normalise
from mple.plan import MorphSettings
from mple.privacy import PictureNoise
from mple.privacy.picture_scores import ssim
from mple.wire.basis_file import basis_bytes
from mple.wire.codecs import codec_named
from mple.wire.transform_codec import TransformCodec
from provider_node.keys.key_basis import fitted_basis
from tests.support.lopsided_pictures import lopsided_pixels
from tests.support.morphed_world import MorphedWorld, morphed_world, natural_pixels

SETTINGS = AttackSettings(site="north", pictures=16)


@cache
def world(preset: str = "compact") -> MorphedWorld:
    pixels, morph = natural_pixels(160, seed=6), MorphSettings(preset=preset, tile=8)
    return morphed_world(pixels, morph=morph, codec="k6", public_PCHW=natural_pixels(600, seed=7))


@pytest.mark.parametrize("preset", ["compact", "distinct"])
def test_the_truth_takes_codes_back_to_pictures(preset: str) -> None:
    one = world(preset)
    t_NKQ, inverse_KQQ = one.sites["north"].t_NKQ.double(), one.truth.inverse_cores("north")
    basis = one.truth.sites["north"].basis
    assert basis is not None
    real_NCHW = one.truth.morpher("north").unmorph(t_NKQ[..., : basis.columns].numpy())
    x_NKQ = torch.stack([t_NKQ[:, k] @ inverse_KQQ[k % len(inverse_KQQ)] for k in range(t_NKQ.shape[1])], 1)
    assert x_NKQ.square().sum() == pytest.approx(float(np.square(real_NCHW).sum()), rel=1e-9)
    assert not inverse_KQQ[:, basis.columns :].any()


@pytest.mark.parametrize("preset", ["compact", "distinct"])
def test_layer_key_finds_what_takes_coefficients_back(preset: str) -> None:
    one = world(preset)
    found = scored(layer_key.ATTACK, layer_key.run(one.compute_node_with_stem(), SETTINGS), one.truth)
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["channels in their right place"] == "16/16"
    assert float(figures["relative error of the key of north"]) < 1e-4
    assert found.pictures[-1].ssim_N.mean() > 0.95


def test_a_colluder_and_a_second_layer_open_them_too() -> None:
    one = world()
    assert (
        scored(collusion.ATTACK, collusion.run(one.colluding_compute("south"), SETTINGS), one.truth)
        .pictures[-1]
        .ssim_N.mean()
        > 0.95
    )
    finding = translation.run(one.compute_node(), SETTINGS)
    figures = {figure.name: float(figure.value) for figure in translation.score(finding, one.truth)}
    assert figures["of translated pictures, codes' rounding included"] < 0.2


def test_known_pairs_determine_what_travels() -> None:
    one = world()
    finding = known_pairs.run(one.outsider_with_pairs("north", 60), SETTINGS)
    assert (
        ssim(
            finding.recovered[-1].pixels_NCHW,
            one.truth.sites["north"].train.pixels_NCHW[finding.recovered[-1].numbers_N],
        ).mean()
        > 0.9
    )
    assert all(
        np.isfinite(float(str(figure.value).partition("/")[0])) for figure in known_pairs.score(finding, one.truth)
    )


def test_codes_of_a_few_pictures_open_by_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COUNTS": (10,), "_GROUPS": {}, "_MOST_COMPONENTS": 8, "_CHAINS": 6}.items():
        monkeypatch.setattr(few_pictures, name, value)
    pixels, public = lopsided_pixels(240, side=24, seed=6), lopsided_pixels(600, side=24, seed=5)
    one = morphed_world(pixels, public_PCHW=public, morph=MorphSettings(tile=8), codec="k6")
    finding = few_pictures.run(one.outsider("north"), SETTINGS)
    (recovered,) = finding.recovered
    assert recovered.way == "10 at a time" and len(recovered.pixels_NCHW) == 10
    values = {figure.name: float(figure.value) for figure in few_pictures.score(finding, one.truth)}
    mean_NCHW = np.repeat(public.mean(0, keepdims=True, dtype=np.float32), 10, 0)
    of_mean = float(ssim(mean_NCHW, one.truth.sites["north"].train.pixels_NCHW[recovered.numbers_N]).mean())
    assert values["mean SSIM with the right sign, 10 at a time"] > of_mean + 0.08  # measured: 0.35 and 0.24
    with pytest.raises(DoesNotApplyError, match="core of its own"):
        few_pictures.run(world("distinct").outsider("north"), SETTINGS)


def test_bands_of_one_column_leave_signs_alone() -> None:
    """Equal pictures on both sides: the signs that were drawn are the ones that are found, up to all of them."""
    dice = torch.Generator().manual_seed(3)
    x_PKQ = torch.randn(900, 1, 6, generator=dice) * torch.tensor([4.0, 2, 1, 1, 0.5, 0.3])
    near_PKQ = x_PKQ + 0.8 * x_PKQ.roll(1, 2) + torch.tensor([1.5, 0, 0, 0, 0, 0])
    tiles_PKQ = torch.cat([near_PKQ, near_PKQ + 0.3 * torch.randn(900, 1, 6, generator=dice)], 1)
    prior = measure_prior(tiles_PKQ, components=6, code_noise=1e-4)
    z_PKQ = tiles_PKQ @ prior.into_QQ
    signs_Q = torch.tensor([1.0, -1, 1, -1, -1, 1])
    found = fit_bands(z_PKQ[:200] * signs_Q, prior, [1] * 6, chains=8)[6]
    assert torch.allclose(found.abs(), z_PKQ[:200].abs(), atol=1e-4)
    assert bool((found[:, :, 0] * z_PKQ[:200, :, 0]).sum() > 0)  # the mean tells the first one


def test_with_noise_a_basis_is_a_function_of_noised_pictures_alone() -> None:
    """Step 1 of the proof in docs/science/privacy.md: other pictures that noise turned into the same give the same."""
    plan, keys = world().plan, world().truth.sites["north"]
    codec = codec_named("k6")
    assert isinstance(codec, TransformCodec)
    noised = LabelledImages(natural_pixels(40, seed=8), np.zeros(40, np.int64))
    bare = LabelledImages(natural_pixels(40, seed=9), np.zeros(40, np.int64))

    class Noise:
        def add(self, x_NCHW: np.ndarray, pixels_NCHW: np.ndarray) -> np.ndarray:
            assert np.array_equal(pixels_NCHW, bare.pixels_NCHW)
            return normalise(noised.pixels_NCHW, plan.normalisation)

    found = fitted_basis(plan, keys.key, 1, bare, codec, cast(PictureNoise, Noise()))
    due = fitted_basis(plan, keys.key, 1, noised, codec)
    assert basis_bytes(found) == basis_bytes(due)
