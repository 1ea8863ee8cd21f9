"""Arithmetic of circuits against integers, and what the builder folds away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.garbled import Circuit, CircuitBuilder
from comparison.garbled.bits import bits_of, numbers_of
from comparison.garbled.circuit import FALSE, TRUE

WIDTH = 6
NUMBERS = st.lists(st.integers(0, 2**WIDTH - 1), min_size=4, max_size=4)


def two_numbers(compute: Callable[[CircuitBuilder, list[int], list[int]], list[int]]) -> Circuit:
    build = CircuitBuilder(garbler_inputs=WIDTH, evaluator_inputs=WIDTH)
    return build.build(compute(build, build.garbler(WIDTH), build.evaluator(WIDTH)))


def run(circuit: Circuit, left: list[int], right: list[int]) -> list[int]:
    numbers = numbers_of(circuit.run(bits_of(np.array(left), WIDTH), bits_of(np.array(right), WIDTH)))
    return [int(number) for number in numbers]


def with_carry(result: tuple[list[int], int]) -> list[int]:
    return [*result[0], result[1]]


@given(NUMBERS, NUMBERS, st.sampled_from([FALSE, TRUE]))
def test_sums(left: list[int], right: list[int], carry: int) -> None:
    circuit = two_numbers(lambda build, one, other: with_carry(build.add(one, other, carry)))
    assert run(circuit, left, right) == [a + b + carry for a, b in zip(left, right, strict=True)]
    assert circuit.ands == WIDTH


@given(NUMBERS, NUMBERS)
def test_differences_and_comparison(left: list[int], right: list[int]) -> None:
    circuit = two_numbers(lambda build, one, other: with_carry(build.subtract(one, other)))
    assert run(circuit, left, right) == [
        (a - b) % 2**WIDTH + 2**WIDTH * (a >= b) for a, b in zip(left, right, strict=True)
    ]
    assert circuit.ands == WIDTH


@given(NUMBERS, NUMBERS)
def test_gates_bit_by_bit(left: list[int], right: list[int]) -> None:
    pairs = list(zip(left, right, strict=True))
    gates: list[tuple[Callable[[CircuitBuilder], Callable[[int, int], int]], list[int]]] = [
        (lambda build: build.xor, [a ^ b for a, b in pairs]),
        (lambda build: build.both, [a & b for a, b in pairs]),
        (lambda build: build.either, [a | b for a, b in pairs]),
    ]
    for gate, expected in gates:
        circuit = two_numbers(
            lambda build, one, other, gate=gate: [gate(build)(x, y) for x, y in zip(one, other, strict=True)]  # type: ignore[misc]
        )
        assert run(circuit, left, right) == expected


@given(NUMBERS, NUMBERS)
def test_choices(left: list[int], right: list[int]) -> None:
    circuit = two_numbers(
        lambda build, one, other: [build.choose(one[0] ^ 1, other[place], one[place]) for place in range(1, WIDTH)]
    )
    assert run(circuit, left, right) == [(a if a & 1 else b) >> 1 for a, b in zip(left, right, strict=True)]
    assert circuit.ands == WIDTH - 1


def test_constants_and_equal_operands_take_no_gate() -> None:
    build = CircuitBuilder(garbler_inputs=1, evaluator_inputs=1)
    (x,) = build.garbler(1)
    assert build.xor(x, FALSE) == x and build.xor(TRUE, x) == x ^ 1
    assert build.xor(x, x) == FALSE and build.xor(x, x ^ 1) == TRUE
    assert build.both(x, TRUE) == x and build.both(TRUE, x) == x and build.both(FALSE, x) == FALSE
    assert build.both(x, x) == x and build.both(x ^ 1, x) == FALSE
    assert build.either(x, TRUE) == TRUE and build.either(FALSE, x) == x
    assert build.choose(TRUE, x, FALSE) == x and build.choose(x, TRUE, FALSE) == x
    assert build.build([x]).gates == ()


def test_gates_without_a_reader_are_left_out() -> None:
    low = two_numbers(lambda build, one, other: build.add(one, other, FALSE)[0][:2])
    assert low.ands == 1 and low.outputs == 2


def test_slots_are_taken_over() -> None:
    circuit = two_numbers(lambda build, one, other: build.add(one, other, FALSE)[0])
    assert circuit.slots < 2 * WIDTH + len(circuit.gates) / 2


def test_a_constant_output_is_refused() -> None:
    build = CircuitBuilder(garbler_inputs=1, evaluator_inputs=1)
    with pytest.raises(ValueError, match="constant"):
        build.build([TRUE])
