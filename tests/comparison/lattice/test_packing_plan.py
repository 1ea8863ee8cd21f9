"""Packing and orders of rotations, carried out on slots in the clear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.lattice import ConvolutionShape, RotationsPlan, UnitCosts, cheapest_plan, packing_of
from comparison.lattice.rotations_plan import milliseconds
from tests.support.plain_convolution import convolved, convolved_in_slots, drawn_weights

SHAPES = st.builds(
    ConvolutionShape,
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5]),
    side=st.sampled_from([1, 2, 4]),
)


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, degree=st.sampled_from([32, 64, 128]), data=st.data())
def test_every_order_is_the_convolution(shape: ConvolutionShape, degree: int, data: st.DataObject) -> None:
    packing = packing_of(shape, degree)
    group = 1 << data.draw(st.integers(0, packing.diagonals.bit_length() - 1))
    plan = RotationsPlan(packing=packing, group=group, swaps_inputs=data.draw(st.booleans()))
    x_CHW = np.random.default_rng(0).integers(-100, 100, (shape.inputs, shape.side, shape.side))
    weights = drawn_weights(shape, 1)
    found, multiplications = convolved_in_slots(plan, x_CHW, weights)
    assert np.array_equal(found, convolved(x_CHW, weights))
    assert multiplications == plan.multiplications


@given(shape=SHAPES)
def test_small_rotations_are_made_with_few_keys(shape: ConvolutionShape) -> None:
    plan = cheapest_plan(packing_of(shape, 128))
    shifts = [rotation.shift for rotation in plan.small]
    assert len(set(shifts)) == len(shifts)
    for number, rotation in enumerate(plan.small[1:], 1):
        assert rotation.parent < number
        assert (shifts[rotation.parent] + rotation.step) % 64 == rotation.shift
        assert rotation.step in plan.key_steps
    assert len({rotation.step for rotation in plan.small[1:]}) <= 5


@pytest.mark.parametrize(
    ("numbers", "rotations", "multiplications"),
    [
        ((64, 64, 3, 32), 16 * 8 + 16 * 3, 64 * 64 * 9 * 1024 // 4096),
        ((256, 256, 3, 8), 4 * 17 + 4 * 31, 256 * 256 * 9 * 64 // 4096),
        ((1024, 10, 1, 1), 1 + 3 + 7, 8),
    ],
)
def test_costs_on_paper(numbers: tuple[int, int, int, int], rotations: int, multiplications: int) -> None:
    inputs, outputs, kernel, side = numbers
    plan = cheapest_plan(packing_of(ConvolutionShape(inputs=inputs, outputs=outputs, kernel=kernel, side=side), 4096))
    assert (plan.rotations, plan.multiplications) == (rotations, multiplications)


def test_costs_decide_the_order() -> None:
    packing = packing_of(ConvolutionShape(inputs=128, outputs=256, kernel=3, side=8), 4096)
    cheapest = cheapest_plan(packing)
    for group in (1, packing.diagonals):
        other = RotationsPlan(packing=packing, group=group, swaps_inputs=False)
        assert milliseconds(cheapest, UnitCosts()) < milliseconds(other, UnitCosts())


def test_what_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 pixels"):
        packing_of(ConvolutionShape(inputs=1, outputs=1, kernel=3, side=64), 4096)


@pytest.mark.parametrize(("kernel", "side"), [(2, 4), (3, 6), (3, 0), (-1, 4)])
def test_shapes_that_make_no_sense_are_refused(kernel: int, side: int) -> None:
    with pytest.raises(ValueError, match=r"must be|must have"):
        ConvolutionShape(inputs=1, outputs=1, kernel=kernel, side=side)


def test_maps_and_weights_of_another_shape_are_refused() -> None:
    shape = ConvolutionShape(inputs=2, outputs=3, kernel=3, side=4)
    with pytest.raises(ValueError, match="maps of shape"):
        packing_of(shape, 4096).pack(np.zeros((3, 4, 4), np.int64))
    with pytest.raises(ValueError, match="weights of shape"):
        shape.reaching(np.zeros((2, 3, 3, 3), np.int64))
