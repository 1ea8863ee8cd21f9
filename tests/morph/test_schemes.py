"""What schemes mean for image shapes, and which schemes and shapes are refused with the way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.morph import (
    PRESETS,
    Cores,
    Ensemble,
    ImageShape,
    Layout,
    MorphGeometry,
    MorphScheme,
    expected_weight_shape,
)
from tests.support.morph_cases import tiled, unrolled

CIFAR = ImageShape(channels=3, height=32, width=32)


def test_presets() -> None:
    assert {name: MorphGeometry.of(scheme, CIFAR).core_side for name, scheme in PRESETS.items()} == {
        "compact": 192,
        "distinct": 192,
        "paper": 3072,
        "mole": 3 * 34 * 34,
    }
    assert PRESETS["mole"].ensemble is Ensemble.UNIFORM and PRESETS["mole"].border == 1
    assert all(PRESETS[name].ensemble is Ensemble.ORTHOGONAL for name in ("compact", "distinct", "paper"))


def test_geometry_of_tiles_that_do_not_divide() -> None:
    geometry = MorphGeometry.of(tiled(Cores.DISTINCT, 8), ImageShape(channels=3, height=33, width=28))
    assert (geometry.rows, geometry.columns, geometry.blocks, geometry.core_side) == (5, 4, 20, 192)
    assert (geometry.padded_height, geometry.padded_width, geometry.morphed_elements) == (40, 32, 3 * 40 * 32)


def test_geometry_of_a_border() -> None:
    geometry = MorphGeometry.of(unrolled(Cores.DISTINCT, 4, 1), CIFAR)
    assert (geometry.blocks, geometry.core_side) == (4, 3 * 34 * 34 // 4)
    assert (geometry.padded_height, geometry.padded_width) == (34, 34)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (PRESETS["paper"], (3072, 64 * 1024)),
        (PRESETS["mole"], (3468, 64 * 1024)),
        (PRESETS["compact"], (192, 64, 10, 10)),
        (PRESETS["distinct"], (16, 192, 64 * 100)),
    ],
)
def test_weight_shapes(scheme: MorphScheme, expected: tuple[int, ...]) -> None:
    assert expected_weight_shape(scheme, CIFAR, 64, 3) == expected


@pytest.mark.parametrize(
    ("kappa", "near"),
    [(7, "3, 4, 6, 8"), (5, "2, 3, 4, 6"), (1000, "512, 768, 1024, 1536"), (4000, "1024, 1536, 3072"), (3071, "3072")],
)
def test_kappa_that_does_not_divide_is_refused_with_near_ones(kappa: int, near: str) -> None:
    with pytest.raises(ValueError, match=f"kappa = {kappa} does not divide .* 3072; near it") as refused:
        MorphGeometry.of(unrolled(Cores.DISTINCT, kappa), CIFAR)
    assert near in str(refused.value)


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(1, 2000))
def test_near_ones_divide(channels: int, height: int, width: int, kappa: int) -> None:
    image = ImageShape(channels=channels, height=height, width=width)
    try:
        geometry = MorphGeometry.of(unrolled(Cores.DISTINCT, kappa), image)
    except ValueError as refused:
        named = str(refused).split("near it ")[1].removesuffix(" do").split(", ")
        assert named and all(image.elements % int(near) == 0 for near in named)
    else:
        assert geometry.blocks * geometry.core_side == image.elements


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kappa": 0}, "kappa = 0; allowed are 1 and above"),
        ({"border": 4}, "border = 4; allowed are 0 to 3"),
        ({"border": -1}, "border = -1"),
        ({"tile": 0}, "tile = 0; allowed are 1 to 64"),
        ({"tile": 65}, "tile = 65"),
        ({"layout": Layout.TILED, "kappa": 2}, "kappa and border belong to the unrolled layout"),
        ({"layout": Layout.TILED, "border": 1}, "kappa and border belong to the unrolled layout"),
    ],
)
def test_schemes_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    base: dict[str, object] = {
        "layout": Layout.UNROLLED,
        "cores": Cores.DISTINCT,
        "ensemble": Ensemble.ORTHOGONAL,
    }
    with pytest.raises(ValueError, match=message):
        MorphScheme(**(base | values))  # type: ignore[arg-type]


@pytest.mark.parametrize("extents", [(0, 8, 8), (1, 0, 8), (1, 8, -1)])
def test_empty_images_are_refused(extents: tuple[int, int, int]) -> None:
    channels, height, width = extents
    with pytest.raises(ValueError, match=f"image shape {channels}x{height}x{width}: every extent must be 1 or more"):
        ImageShape(channels=channels, height=height, width=width)
