"""Garbled circuits against circuits in the clear, against the paper's formulas, and what the evaluator sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.garbled import (
    Circuit,
    CircuitBuilder,
    Garbled,
    delta_bits,
    draw_delta,
    evaluate,
    garble,
    garbled_bytes,
    relu_circuit,
)
from comparison.garbled.bits import Bits
from comparison.garbled.cipher import Blocks, TweakedHash, expand_blocks
from comparison.garbled.half_gates import multiples

RELU = relu_circuit(786433, 7)


def drawn_bits(shape: tuple[int, ...], seed: int = 1) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)


def message(garbled: Garbled) -> bytes:
    return b"".join(garbled.buffers)


def labels(garbled: Garbled, delta: Blocks, bits: Bits) -> Blocks:
    """What oblivious transfer would give the evaluator."""
    return garbled.evaluator_zeros ^ multiples(delta, bits)


def run_both(circuit: Circuit, instances: int, first_instance: int = 0) -> None:
    ours = drawn_bits((circuit.garbler_inputs, instances))
    theirs = drawn_bits((circuit.evaluator_inputs, instances), 2)
    delta = draw_delta()
    garbled = garble(circuit, ours, delta, first_instance)
    data = message(garbled)
    assert len(data) == garbled_bytes(circuit, instances)
    found = evaluate(circuit, instances, data, labels(garbled, delta, theirs), first_instance)
    assert (found == circuit.run(ours, theirs)).all()


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    """Any small circuit, with inverted operands and outputs, and inputs as outputs."""
    inputs = 4
    build = CircuitBuilder(garbler_inputs=2, evaluator_inputs=2)
    wires = [*build.garbler(2), *build.evaluator(2)]
    for _ in range(draw(st.integers(1, 12))):
        left, right = (wires[draw(st.integers(0, len(wires) - 1))] ^ draw(st.integers(0, 1)) for _ in range(2))
        wires.append(build.both(left, right) if draw(st.booleans()) else build.xor(left, right))
    wires = [wire for wire in wires if wire > 1]
    chosen = draw(st.lists(st.integers(0, len(wires) - 1), min_size=1, max_size=inputs))
    return build.build([wires[place] ^ draw(st.integers(0, 1)) for place in chosen])


@given(circuits())
@settings(max_examples=100, deadline=None)
def test_any_circuit(circuit: Circuit) -> None:
    run_both(circuit, 16)


@pytest.mark.parametrize("instances", [1, 1023, 1024, 1025, 2500])
def test_pieces_of_any_size(instances: int) -> None:
    run_both(RELU.circuit, instances, first_instance=2**40)


def hashed(blocks_I: Blocks, first: int, gate_half: int) -> Blocks:
    tweaks_I = np.stack([np.arange(first, first + len(blocks_I)), np.full(len(blocks_I), gate_half)], 1)
    return TweakedHash((len(blocks_I),))(blocks_I.copy(), tweaks_I.astype(np.uint64)).copy()


def colours(labels_I: Blocks) -> Blocks:
    return labels_I[:, :1] & np.uint64(1)


def test_one_and_gate_is_that_of_the_paper() -> None:
    """Zahur, Rosulek, Evans, figure 2."""
    build = CircuitBuilder(garbler_inputs=1, evaluator_inputs=1)
    circuit = build.build([build.both(*build.garbler(1), *build.evaluator(1))])
    delta, first = draw_delta(), 77
    ours = drawn_bits((1, 40))
    garbled = garble(circuit, ours, delta, first)
    left = expand_blocks(garbled.seed, (40,)) ^ delta * ours[0, :, None]
    right = garbled.evaluator_zeros[0]
    generator = hashed(left, first, 0) ^ hashed(left ^ delta, first, 0) ^ delta * colours(right)
    evaluator = hashed(right, first, 1) ^ hashed(right ^ delta, first, 1) ^ left
    assert (garbled.tables == np.stack([generator, evaluator])[None]).all()
    result = hashed(left, first, 0) ^ generator * colours(left)
    result ^= hashed(right, first, 1) ^ (evaluator ^ left) * colours(right)
    decoding = np.unpackbits(np.frombuffer(garbled.decoding, np.uint8), bitorder="little")
    assert (decoding[:, None] == colours(result)).all()


def test_the_evaluator_sees_one_label_of_a_wire() -> None:
    """Of all wires, inner ones too: no two blocks of its view differ by the difference, as a wire's labels do."""
    instances = 40
    circuit, delta = RELU.circuit, draw_delta()
    ours, theirs = (drawn_bits((count, instances)) for count in (circuit.garbler_inputs, RELU.bits))
    garbled = garble(circuit, ours, delta, 0)
    wires = [*expand_blocks(garbled.seed, ours.shape), *labels(garbled, delta, theirs)]
    seen = [*wires, *garbled.tables.reshape(-1, instances, 2)]
    slots = wires + [np.zeros((instances, 2), np.uint64)] * (circuit.slots - len(wires))
    ands = 0
    for gate in circuit.gates:
        left, right = slots[gate.left], slots[gate.right]
        result = left ^ right
        if gate.is_and:
            generator, evaluator = garbled.tables[ands]
            result = hashed(left, 0, 2 * ands) ^ generator * colours(left)
            result ^= hashed(right, 0, 2 * ands + 1) ^ (evaluator ^ left) * colours(right)
            ands += 1
        slots[gate.result] = result
        seen.append(result)
    decoding = np.unpackbits(np.frombuffer(garbled.decoding, np.uint8), bitorder="little").reshape(-1, instances)
    outputs = np.stack([colours(slots[slot])[:, 0] for slot, _ in circuit.results]) ^ decoding
    assert (outputs == circuit.run(ours, theirs)).all()
    view = {block.tobytes() for blocks in seen for block in blocks}
    assert not view & {(np.frombuffer(block, "<u8") ^ delta).tobytes() for block in view}
    assert delta.tobytes() not in view


def test_colours_of_the_labels_seen_do_not_depend_on_the_bits() -> None:
    circuit, delta = RELU.circuit, draw_delta()
    for bit in (0, 1):
        ours = np.full((circuit.garbler_inputs, 500), bit, np.uint8)
        garbled = garble(circuit, ours, delta, 0)
        seen = np.concatenate([expand_blocks(garbled.seed, ours.shape), labels(garbled, delta, ours[: RELU.bits])])
        assert abs((seen[..., 0] & np.uint64(1)).mean() - 0.5) < 0.02


def test_an_and_takes_32_bytes() -> None:
    assert garbled_bytes(RELU.circuit, 1000) == 83 * 32 * 1000 + 16 + 20 * 1000 // 8


def test_the_wrong_labels_or_instance_numbers_give_nonsense() -> None:
    ours, theirs = drawn_bits((RELU.circuit.garbler_inputs, 50)), drawn_bits((RELU.bits, 50), 2)
    delta = draw_delta()
    garbled = garble(RELU.circuit, ours, delta, 5)
    right = RELU.circuit.run(ours, theirs)
    good = labels(garbled, delta, theirs)
    assert (evaluate(RELU.circuit, 50, message(garbled), good, 5) == right).all()
    assert (evaluate(RELU.circuit, 50, message(garbled), good, 6) != right).mean() > 0.3
    assert (evaluate(RELU.circuit, 50, message(garbled), good ^ np.uint64(4), 5) != right).mean() > 0.3


def test_garbling_twice_shares_no_block() -> None:
    ours, delta = drawn_bits((RELU.circuit.garbler_inputs, 20)), draw_delta()
    one, other = (garble(RELU.circuit, ours, delta, first) for first in (0, 20))
    assert one.seed != other.seed
    assert not {b.tobytes() for b in one.tables.reshape(-1, 2)} & {b.tobytes() for b in other.tables.reshape(-1, 2)}


def test_a_difference_has_a_colour_and_its_bits() -> None:
    delta = draw_delta()
    bits = delta_bits(delta)
    assert bits[0] == 1
    assert sum(int(bit) << place for place, bit in enumerate(bits)) == int(delta[0]) | int(delta[1]) << 64
    assert (delta != draw_delta()).any()


def test_sizes_that_do_not_fit() -> None:
    ours, delta = drawn_bits((RELU.circuit.garbler_inputs, 8)), draw_delta()
    with pytest.raises(ValueError, match="garbler's bits of shape"):
        garble(RELU.circuit, ours[1:], delta, 0)
    with pytest.raises(ValueError, match="take one from draw_delta"):
        garble(RELU.circuit, ours, delta ^ np.uint64(1), 0)
    garbled = garble(RELU.circuit, ours, delta, 0)
    good = garbled.evaluator_zeros
    with pytest.raises(ValueError, match=r"a garbled circuit of \d+ bytes, needs \d+"):
        evaluate(RELU.circuit, 8, message(garbled)[:-1], good, 0)
    with pytest.raises(ValueError, match=r"labels of shape \(19, 8, 2\)"):
        evaluate(RELU.circuit, 8, message(garbled), good[1:], 0)
