"""Activation circuits against plain arithmetic: all shares of small moduli, drawn ones of large, and their size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comparison.garbled import ActivationCircuit, pooled_relu_circuit, relu_circuit

BATCHING_20_BITS = 786433
"""3 * 2**18 + 1."""
BATCHING_22_BITS = 4079617
"""249 * 2**14 + 1."""


def unmasked(
    activation: ActivationCircuit, ours: NDArray[np.int64], theirs: NDArray[np.int64], masks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What the circuit gives, with the mask put back."""
    bits = activation.circuit.run(activation.garbler_bits(ours, masks), activation.evaluator_bits(theirs))
    assert bits.shape == (activation.bits, masks.size)
    residues = activation.residues(bits)
    assert residues.min() >= 0 and residues.max() < activation.modulus
    return (residues + masks) % activation.modulus


def relu(values: NDArray[np.int64], modulus: int, shift: int) -> NDArray[np.int64]:
    """Written apart from the package: residues, centred, negative ones to 0, divided by 2**shift downwards."""
    centred = [value if 2 * value < modulus - 1 else value - modulus for value in values.tolist()]
    return np.array([max(value, 0) // 2**shift for value in centred], np.int64)


@pytest.mark.parametrize("modulus", [5, 7, 9, 11, 13, 17, 23, 31, 33])
def test_all_shares_and_masks_of_small_moduli(modulus: int) -> None:
    ours, theirs, masks = (axis.ravel() for axis in np.indices((modulus,) * 3))
    for shift in range(modulus.bit_length() - 1):
        expected = relu((ours + theirs) % modulus, modulus, shift)
        assert (unmasked(relu_circuit(modulus, shift), ours, theirs, masks) == expected).all(), shift


@given(st.integers(2, 2**22).map(lambda half: 2 * half + 1), st.data())
@settings(max_examples=60, deadline=None)
def test_odd_moduli(modulus: int, data: st.DataObject) -> None:
    shift = data.draw(st.integers(0, modulus.bit_length() - 2))
    window = data.draw(st.integers(1, 5))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ours, theirs = (draw.integers(0, modulus, (window, 50)) for _ in range(2))
    masks = draw.integers(0, modulus, 50)
    activation = pooled_relu_circuit(modulus, shift, window)
    sums = (ours + theirs) % modulus
    expected = np.max([relu(row, modulus, shift) for row in sums], axis=0)
    assert (unmasked(activation, ours, theirs, masks) == expected).all()
    assert (activation.plain(sums) == expected).all()


@pytest.mark.parametrize("modulus", [BATCHING_20_BITS, BATCHING_22_BITS])
@pytest.mark.parametrize("shift", [0, 4, 7, 12])
def test_values_at_the_edges(modulus: int, shift: int) -> None:
    half, step = modulus // 2, 1 << shift
    edges = np.array([0, 1, step - 1, step, half - 2, half - 1, half, half + 1, half + 2, modulus - 2, modulus - 1])
    values, ours, masks = (axis.ravel() for axis in np.meshgrid(edges, edges % modulus, edges))
    theirs = (values - ours) % modulus
    expected = relu(values, modulus, shift)
    assert (unmasked(relu_circuit(modulus, shift), ours, theirs, masks) == expected).all()
    assert expected[values == half - 1].max() == (half - 1) >> shift and expected[values >= half].max() == 0


def test_a_window_of_one_value_and_negative_windows() -> None:
    activation = pooled_relu_circuit(BATCHING_20_BITS, 3)
    values = np.array([[-1, 8, -5, 0], [-2, 16, 0, 0], [-3, 24, -9, 0], [-4, 23, -7, 7]]) % BATCHING_20_BITS
    zeros = np.zeros_like(values)
    assert unmasked(activation, values, zeros, zeros[0]).tolist() == [0, 3, 0, 0]


@pytest.mark.parametrize(("modulus", "shift"), [(BATCHING_20_BITS, 7), (BATCHING_20_BITS, 5), (BATCHING_22_BITS, 9)])
def test_the_gates_are_those_of_the_count_on_paper(modulus: int, shift: int) -> None:
    bits = modulus.bit_length()
    left = bits - 1 - shift
    assert relu_circuit(modulus, shift).circuit.ands == 3 * bits - 1 + 2 * left
    assert pooled_relu_circuit(modulus, shift).circuit.ands == 4 * (2 * bits - 1) + 6 * (left + 1) + bits + 2 * left
    assert relu_circuit(modulus, shift).circuit.evaluator_inputs == bits


def test_83_gates_for_20_bits_and_a_shift_of_7() -> None:
    assert relu_circuit(BATCHING_20_BITS, 7).circuit.ands == 83


@pytest.mark.parametrize(
    ("modulus", "shift", "window", "match"),
    [
        (786432, 7, 1, "modulus 786432; it must be odd"),
        (3, 0, 1, "modulus 3;"),
        (2**61 - 1, 0, 1, r"below 2\*\*60"),
        (786433, 19, 1, "a shift of 19 leaves no bit"),
        (786433, -1, 1, "a shift of -1"),
        (786433, 7, 0, "a window of 0 values"),
    ],
)
def test_circuits_that_make_no_sense(modulus: int, shift: int, window: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pooled_relu_circuit(modulus, shift, window)


def test_shares_that_do_not_fit() -> None:
    activation = pooled_relu_circuit(13, 1, 2)
    masks = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"shares of shape \(3,\), needs \(2, instances\)"):
        activation.evaluator_bits(masks)
    with pytest.raises(ValueError, match=r"a share in 0..13; residues are in 0..12"):
        activation.evaluator_bits(np.array([[0, 13], [1, 2]]))
    with pytest.raises(ValueError, match=r"a mask in -1..0; residues"):
        activation.garbler_bits(np.zeros((2, 3), np.int64), np.array([-1, 0, 0]))
    with pytest.raises(ValueError, match=r"masks of shape \(3,\) for 2 instances"):
        activation.garbler_bits(np.zeros((2, 2), np.int64), masks)
