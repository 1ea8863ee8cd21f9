"""The numbers of a layer's file: what 8 bits lose, what they weigh, and what is no weight."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.morph import PRESETS, ImageShape, MorphKey
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.wire.layer_dtype import LayerDtypeError, require_header, tensors_of, weight_bytes, weight_of
from mple.wire.names import LAYER_DTYPES

WEIGHT, SCALE = "augmented.weight", "augmented.scale"
SHAPES = [(5, 7), (4, 3, 6), (6, 2, 3, 3), (300, 4)]
"""Unrolled, distinct tiles, one core, and more inputs than are rounded at once."""
values = hnp.arrays(np.float32, st.sampled_from(SHAPES), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def input_axis(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == 3 else 0


@given(values)
def test_8_bits_are_off_by_half_a_step_of_their_output(weight: NDArray[np.float32]) -> None:
    tensors = tensors_of(weight, "int8")
    back = weight_of(tensors, "int8").astype(np.float64)
    exact = weight.astype(np.float64)
    step = np.abs(exact).max(axis=input_axis(weight.shape), keepdims=True) / 127
    assert (np.abs(back - exact) <= 0.5 * step * (1 + 1e-4) + 1e-37).all()
    assert np.abs(tensors[WEIGHT].astype(int)).max() <= 127


def test_8_bits_by_hand() -> None:
    """Scales: 127 / 127 = 1 and 0.5 / 127; an output of zeros has the scale 1."""
    tensors = tensors_of(np.array([[127.0, 0.5, 0.0], [-3.4, -0.25, 0.0]], np.float32), "int8")
    assert tensors[WEIGHT].tolist() == [[127, 127, 0], [-3, -64, 0]]
    assert tensors[SCALE].tolist() == [1.0, float(np.float32(0.5) / np.float32(127)), 1.0]


@pytest.mark.parametrize("numbers", LAYER_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes(numbers: str, shape: tuple[int, ...]) -> None:
    tensors = tensors_of(np.ones(shape, np.float32), numbers)
    assert sum(tensor.nbytes for tensor in tensors.values()) == weight_bytes(shape, numbers)


@pytest.mark.parametrize("numbers", LAYER_DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(numbers: str, value: float) -> None:
    weight = np.ones((4, 3, 6), np.float32)
    weight[2, 1, 0] = value
    with pytest.raises(ValueError, match="weight of the layer is"):
        tensors_of(weight, numbers)


def test_what_f16_can_not_hold_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r'beyond the range of f16; set wire\.layer to "f32"'):
        tensors_of(np.array([[70_000.0]], np.float32), "f16")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({WEIGHT: ("F32", (5, 7))}, "dtype F32; the plan needs I8"),
        ({WEIGHT: ("BF16", (5, 7))}, "dtype BF16; the plan needs I8"),
        ({WEIGHT: ("I8", (5, 7, 1))}, "shape"),
        ({SCALE: ("F32", (6,))}, "shape"),
        ({SCALE: ("F16", (7,))}, "dtype F16; the plan needs F32"),
        ({SCALE: None}, "instead of"),
        ({"more": ("F32", (1,))}, "instead of"),
    ],
)
def test_what_is_no_weight_is_refused_by_its_header(
    changed: dict[str, tuple[str, tuple[int, ...]] | None], text: str
) -> None:
    due = {WEIGHT: ("I8", (5, 7)), SCALE: ("F32", (7,))}
    require_header(due, (5, 7), "int8")
    found = {name: one for name, one in (due | changed).items() if one is not None}
    with pytest.raises(LayerDtypeError, match=text):
        require_header(found, (5, 7), "int8")


@pytest.mark.parametrize(("numbers", "least", "most"), [("f16", 1e-4, 4e-4), ("int8", 4e-3, 1e-2)])
@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_the_features_are_off_by_what_is_stated(preset: str, numbers: str, least: float, most: float) -> None:
    image = ImageShape(channels=3, height=16, width=16)
    stem = np.random.default_rng(1).normal(size=(8, 3, 3, 3)).astype(np.float32)
    key = MorphKey(bytes(32))
    layer = build_augmented_layer(PRESETS[preset], image, stem, key, np.arange(8), session=b"s", key_epoch=1)
    received = weight_of(tensors_of(layer.weight, numbers), numbers)
    x_BCHW = np.random.default_rng(2).normal(size=(16, 3, 16, 16)).astype(np.float32)
    t_BKQ = Morpher(PRESETS[preset], image, key, session=b"s", key_epoch=1).morph(x_BCHW)
    exact, rounded = layer.apply(t_BKQ), dataclasses.replace(layer, weight=received).apply(t_BKQ)
    assert least < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < most
