"""Augmentation of feature maps, against what it stands for: the same thing done to the pictures themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.data.normalise import normalise
from mple.model.augmentation import Augmentation, erased, mirrored, shifted
from mple.model.first_layer.plain import plain_features
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import Augment
from mple.model.stem import Stem, mirror_images, mirrored_channels
from mple.morph import Arithmetic, Cores, ImageShape, MorphScheme
from mple.morph.arithmetic import Floats
from mple.plan import NormalisationSettings, TrainingSettings
from tests.support import morph_cases

ALL = TrainingSettings(augment=(Augment.ERASE, Augment.MIRROR, Augment.SHIFT), erase_share=1.0)
SEED = [1, 2, 3]


def pictures(samples: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand(samples, channels, height, width, generator=torch.Generator().manual_seed(0))


def turned_samples(samples: int) -> NDArray[np.bool_]:
    """Which samples `mirrored` turns: what it does to maps that rise from left to right."""
    rising = torch.arange(4.0).expand(samples, 1, 1, 4)
    turned: NDArray[np.bool_] = (mirrored(rising, np.arange(1), SEED)[:, 0, 0, 0] == 3).numpy()
    return turned


@pytest.mark.parametrize(
    ("scheme", "shape", "filters", "kernel"),
    [
        (morph_cases.tiled(Cores.IDENTICAL, 8), ImageShape(channels=3, height=16, width=19), 9, 3),
        (morph_cases.tiled(Cores.DISTINCT, 4), ImageShape(channels=1, height=10, width=9), 8, 5),
        (morph_cases.tiled(Cores.IDENTICAL, 4), ImageShape(channels=2, height=8, width=8), 7, 1),
        (morph_cases.unrolled(Cores.IDENTICAL), ImageShape(channels=2, height=9, width=10), 8, 3),
        (morph_cases.unrolled(Cores.DISTINCT, 2, border=1), ImageShape(channels=1, height=8, width=8), 9, 7),
    ],
    ids=["compact", "distinct", "one pixel", "paper", "border"],
)
def test_mirrored_features_are_those_of_the_mirrored_picture(
    scheme: MorphScheme, shape: ImageShape, filters: int, kernel: int
) -> None:
    """Through morphing and a layer in the permuted order, to the last column: padding is symmetric."""
    stem = Stem.from_seed("mirror", filters=filters, channels=shape.channels, kernel=kernel, mirrored=True)
    order = morph_cases.channel_order(filters)
    layer = prepare_layer(morph_cases.layer(scheme, shape, stem.kernels_FCpp), Arithmetic.F32)
    morpher = morph_cases.morpher(scheme, shape)
    x_BCHW = morph_cases.images(shape, count=12)
    turned_B = turned_samples(12)
    assert 0 < turned_B.sum() < 12
    turned_BCHW = np.where(turned_B[:, None, None, None], x_BCHW[..., ::-1], x_BCHW)

    def features(pixels_BCHW: Floats) -> Tensor:
        return layer.apply(torch.from_numpy(morpher.morph(np.ascontiguousarray(pixels_BCHW))))

    found = mirrored(features(x_BCHW), mirrored_channels(stem, order), SEED)
    expected = features(turned_BCHW)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    plain = morph_cases.plain_features(turned_BCHW, stem.kernels_FCpp)[:, order]
    assert float((found - torch.from_numpy(plain)).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("scheme", "side"),
    [
        (morph_cases.tiled(Cores.IDENTICAL, 4), 6),
        (morph_cases.tiled(Cores.DISTINCT, 4), 6),
        (morph_cases.unrolled(Cores.IDENTICAL), 8),
    ],
    ids=["compact", "distinct", "paper"],
)
def test_the_layers_tell_the_pairs_anyway(scheme: MorphScheme, side: int) -> None:
    """Orthogonal cores keep the norms of columns, and mirrored kernels have mirrored ones: neither key nor stem is
    needed, so that whoever holds a layer is told nothing new."""
    shape = ImageShape(channels=3, height=8, width=8)
    stem = Stem.from_seed("pairs", filters=9, channels=3, kernel=3, mirrored=True)
    weight = morph_cases.layer(scheme, shape, stem.kernels_FCpp).weight
    norms_FHW = np.square(weight.reshape(-1, 9, side, side)).sum(0)
    apart_FF = np.square(norms_FHW[:, None] - norms_FHW[None, :, :, ::-1]).sum((2, 3))
    order = morph_cases.channel_order(9)
    assert np.array_equal(apart_FF.argmin(1), mirrored_channels(stem, order))


def test_half_of_the_samples_are_mirrored_and_the_others_as_they_were() -> None:
    f_BFHW = pictures(4000, 2, 2, 3).to(memory_format=torch.channels_last)
    found = mirrored(f_BFHW, np.array([1, 0]), SEED)
    kept_B = (found == f_BFHW).flatten(1).all(1)
    assert (found[~kept_B] == f_BFHW[~kept_B].flip(1, 3)).all()
    assert int(kept_B.sum()) == pytest.approx(2000, abs=4 * 32)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_shifted_features_are_those_of_the_shifted_image() -> None:
    """Away from the border, where zeros come in: convolution commutes with translation."""
    stem = Stem.from_seed("shift", filters=8, channels=3, kernel=3)
    x_BCHW = torch.rand(16, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    most = 2
    moved_features = shifted(plain_features(stem, x_BCHW), most, [1, 2, 3])
    moved_images = shifted(x_BCHW, most, [1, 2, 3])
    edge = most + 1
    inner = (slice(None), slice(None), slice(edge, -edge), slice(edge, -edge))
    assert torch.allclose(moved_features[inner], plain_features(stem, moved_images)[inner], rtol=0, atol=1e-5)


def test_shifts_reach_every_place_in_range_and_none_beyond() -> None:
    f_BFHW = torch.zeros(2000, 1, 9, 9)
    f_BFHW[:, 0, 4, 4] = 1
    moved = shifted(f_BFHW, 2, [7])
    places = {tuple(place) for place in moved.nonzero()[:, 2:].tolist()}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert float(moved.sum()) == 2000


def test_erased_features_are_those_of_the_picture_with_the_mean_there() -> None:
    """Inside the rectangle, and outside it but for a rim of p // 2 pixels, which sees both."""
    normalisation = NormalisationSettings(mean=(0.4,), std=(0.2,))
    pixels_BCHW = (pictures(20, 1, 28, 24).numpy() * 255).astype(np.uint8)
    stem = Stem.from_seed("erase", filters=4, channels=1, kernel=3)

    def features(x_BCHW: NDArray[np.float32]) -> Tensor:
        return plain_features(stem, torch.from_numpy(x_BCHW))

    x_BCHW = normalise(pixels_BCHW, normalisation)
    hole_BHW = (erased(torch.ones(20, 1, 28, 24), ALL, SEED) == 0)[:, 0]
    found = erased(features(x_BCHW), ALL, SEED)
    mean_BCHW = normalise(np.full_like(pixels_BCHW, round(0.4 * 255)), normalisation)
    erased_BCHW = np.where(hole_BHW[:, None].numpy(), mean_BCHW, x_BCHW)
    near_BHW = functional.max_pool2d(hole_BHW[:, None].float(), 3, 1, 1)[:, 0] > 0
    inner_BHW = functional.max_pool2d((~hole_BHW)[:, None].float(), 3, 1, 1)[:, 0] == 0
    far = (inner_BHW | ~near_BHW)[:, None].expand_as(found)
    assert float(far.float().mean()) > 0.75
    assert torch.allclose(found[far], features(erased_BCHW)[far], rtol=0, atol=1e-5)


def test_one_rectangle_of_the_settings_size_is_erased_wherever_it_fits() -> None:
    settings = TrainingSettings(augment=(Augment.ERASE,), erase_share=0.25, erase_least=0.1, erase_most=0.2)
    hole_BFHW = erased(torch.ones(4000, 2, 30, 40), settings, SEED) == 0
    hole_BHW = hole_BFHW[:, 0]
    assert torch.equal(hole_BHW, hole_BFHW[:, 1])
    tall_B, wide_B = hole_BHW.any(2).sum(1), hole_BHW.any(1).sum(1)
    assert (hole_BHW.sum((1, 2)) == tall_B * wide_B).all(), "it is a rectangle"
    chosen_B = tall_B > 0
    assert int(chosen_B.sum()) == pytest.approx(1000, abs=4 * 28)
    area_B = (tall_B * wide_B)[chosen_B] / 1200
    assert 0.09 < float(area_B.min()) < 0.11 < 0.19 < float(area_B.max()) < 0.21  # sides are whole pixels
    assert float(area_B.mean()) == pytest.approx(0.15, abs=0.005)
    ratio_B = (tall_B / wide_B)[chosen_B]
    assert 0.3 < float(ratio_B.min()) < 0.4 < 2.5 < float(ratio_B.max()) < 3.4
    assert hole_BHW.any(0).all(), "every pixel has its turn"


def test_the_whole_of_a_map_may_be_erased() -> None:
    settings = dataclasses.replace(ALL, erase_least=1.0, erase_most=1.0)
    assert erased(torch.ones(50, 1, 28, 28), settings, SEED).mean() < 0.5


def test_what_a_step_draws_depends_on_seed_and_step_alone() -> None:
    """Also not on the order in which the settings name the kinds; maps of the caller stay as they are."""
    f_BFHW = pictures(16, 8, 12, 12)
    before, channels = f_BFHW.clone(), np.array([1, 0, 3, 2, 4, 6, 5, 7])
    torch.manual_seed(1)
    found = Augmentation(ALL, channels).varied(f_BFHW, 5)
    torch.manual_seed(2)
    other = dataclasses.replace(ALL, augment=tuple(reversed(ALL.augment)))
    assert torch.equal(Augmentation(other, channels).varied(f_BFHW, 5), found)
    assert not torch.equal(Augmentation(ALL, channels).varied(f_BFHW, 6), found)
    assert not torch.equal(Augmentation(dataclasses.replace(ALL, seed=2), channels).varied(f_BFHW, 5), found)
    assert torch.equal(f_BFHW, before)
    assert Augmentation(TrainingSettings()).varied(f_BFHW, 5) is f_BFHW


def test_each_kind_has_draws_of_its_own() -> None:
    """What is erased does not tell what is mirrored."""
    f_BFHW = torch.arange(1.0, 9.0).expand(400, 1, 8, 8).contiguous()
    only = [Augmentation(TrainingSettings(augment=(kind,)), np.arange(1)) for kind in Augment]
    changed = [(one.varied(f_BFHW, 0) - f_BFHW).flatten(1).norm(dim=1).numpy() for one in only]
    assert np.abs(np.corrcoef(changed) - np.eye(3)).max() < 0.2


def test_nothing_is_mirrored_without_a_word_on_channels() -> None:
    with pytest.raises(ValueError, match="without the channels' mirror images"):
        Augmentation(ALL)


def test_a_wrong_pairing_shows() -> None:
    """The bound above can fail."""
    stem = Stem.from_seed("mirror", filters=8, channels=1, kernel=3, mirrored=True)
    x_BCHW = pictures(12, 1, 9, 9)
    turned = torch.where(torch.from_numpy(turned_samples(12))[:, None, None, None], x_BCHW.flip(3), x_BCHW)
    right = mirrored(plain_features(stem, x_BCHW), mirror_images(stem), SEED)
    wrong = mirrored(plain_features(stem, x_BCHW), np.arange(8), SEED)
    assert torch.allclose(right, plain_features(stem, turned), rtol=0, atol=1e-5)
    assert not torch.allclose(wrong, plain_features(stem, turned), rtol=0, atol=1e-1)
