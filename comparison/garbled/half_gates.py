"""Garbling and evaluating circuits with half-gates: XOR free, 32 bytes an AND, many instances side by side.

Zahur, Rosulek and Evans, "Two Halves Make a Whole" (EUROCRYPT 2015), on free XOR and point-and-permute: the label of a
wire's 1 is that of its 0 xor the garbler's secret difference, whose lowest bit is 1, so that the lowest bit of a label
(its colour) says which row to use and nothing else.

Secure against an evaluator and a garbler who follow the protocol, if the hash is tweakable circular correlation robust
(`comparison.garbled.cipher`) and no tweak comes twice under one difference: a tweak is made of the instance's
number, which the caller never repeats within a connection, the gate, and the half. Nobody may see both labels of a
wire; the evaluator's arrive by oblivious transfer. The garbler, who has its own bits when it garbles, expands *their*
labels from a seed and makes the others from these: the seed is all that the evaluator needs, and it tells nothing,
since labels of either bit are equally random.

A message: tables (ands, 2, I) blocks, 16 bytes of seed, decoding bits (outputs, I) packed.
Legend: I instances, B instances of a piece that fits the cache, E the evaluator's input wires; blocks (..., 2) uint64.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comparison.garbled.bits import Bits, blocks_in, check_length, pack, packed_bytes, unpack
from comparison.garbled.cipher import BLOCK_BYTES, Blocks, Buffer, TweakedHash, bytes_of, draw_blocks, expand_blocks
from comparison.garbled.circuit import Circuit

_PIECE = 1024
"""Instances at once: 16 KiB a row of labels."""
_ALL_OR_NOTHING = np.array([[0, 0], [2**64 - 1, 2**64 - 1]], np.uint64).view(np.complex128)[:, 0]
"""Masks by colour, as one item of 16 bytes each, so that looking them up is one quick move an item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbled:
    """Garbled instances of a circuit, at the garbler; good for one evaluation, as two would show both labels."""

    tables: Blocks
    """(ands, 2, I, 2)."""
    seed: bytes
    """Of the labels of the garbler's own bits."""
    decoding: bytes
    """Packed colours of the labels of 0 of the outputs, (outputs, I)."""
    evaluator_zeros: Blocks
    """Labels of 0 of the evaluator's inputs, (E, I, 2); secret."""

    @property
    def buffers(self) -> list[Buffer]:
        """The message to the evaluator, in pieces that are sent one after the other."""
        return [bytes_of(self.tables), self.seed + self.decoding]


def garbled_bytes(circuit: Circuit, instances: int) -> int:
    """Length of the message."""
    return _table_bytes(circuit, instances) + BLOCK_BYTES + packed_bytes(circuit.outputs * instances)


def draw_delta() -> Blocks:
    """A secret difference of labels, (2,); one for a connection."""
    delta = np.frombuffer(secrets.token_bytes(BLOCK_BYTES), "<u8").copy()
    delta[0] |= np.uint64(1)
    return delta


def delta_bits(delta: Blocks) -> Bits:
    """The 128 bits of a difference, lowest first."""
    return np.unpackbits(delta.view(np.uint8), bitorder="little")


def multiples(delta: Blocks, bits: Bits) -> Blocks:
    """The difference where a bit is 1, zeros where it is 0; of the bits' shape and (2,)."""
    return _spread(bits) & delta


def garble(circuit: Circuit, garbler_bits: Bits, delta: Blocks, first_instance: int) -> Garbled:
    """Garble as many instances as there are columns of the garbler's bits.

    Args:
        circuit: The circuit.
        garbler_bits: The garbler's inputs, (garbler_inputs, I).
        delta: Of `draw_delta`.
        first_instance: Number of the first instance; the next batch of a connection starts I later.

    Raises ValueError: the bits don't fit the circuit, or the difference has no colour.
    """
    if garbler_bits.ndim != 2 or len(garbler_bits) != circuit.garbler_inputs:
        raise ValueError(f"garbler's bits of shape {garbler_bits.shape}, needs ({circuit.garbler_inputs}, instances)")
    if not int(delta[0]) & 1:
        raise ValueError("the lowest bit of the difference is 0; take one from draw_delta")
    instances = garbler_bits.shape[1]
    seed = secrets.token_bytes(BLOCK_BYTES)
    garbler_zeros = expand_blocks(seed, garbler_bits.shape) ^ multiples(delta, garbler_bits)
    evaluator_zeros = draw_blocks((circuit.evaluator_inputs, instances))
    inputs = np.concatenate([garbler_zeros, evaluator_zeros])
    tables = np.empty((circuit.ands, 2, instances, 2), np.uint64)
    colours = np.empty((circuit.outputs, instances), np.uint8)
    for piece in _pieces(instances):
        size = piece.stop - piece.start
        run = _Garbling(circuit, size, delta, first_instance + piece.start)
        colours[:, piece] = run.garble(inputs[:, piece], tables[:, :, piece])
    return Garbled(tables=tables, seed=seed, decoding=pack(colours), evaluator_zeros=evaluator_zeros)


def evaluate(circuit: Circuit, instances: int, message: Buffer, labels_EI: Blocks, first_instance: int) -> Bits:
    """Output bits of garbled instances, (outputs, I).

    Args:
        circuit: As garbled.
        instances: I.
        message: The garbler's.
        labels_EI: Labels of the evaluator's bits, (E, I, 2).
        first_instance: As garbled.

    Raises ValueError: the message or the labels are of another size.
    """
    check_length(message, garbled_bytes(circuit, instances), "a garbled circuit")
    if labels_EI.shape != (circuit.evaluator_inputs, instances, 2):
        raise ValueError(f"labels of shape {labels_EI.shape}, needs {(circuit.evaluator_inputs, instances, 2)}")
    whole, end = memoryview(message), _table_bytes(circuit, instances)
    tables = blocks_in(whole[:end], (circuit.ands, 2, instances), "garbled tables")
    seed = bytes(whole[end : end + BLOCK_BYTES])
    decoding = unpack(whole[end + BLOCK_BYTES :], (circuit.outputs, instances), "decoding bits")
    inputs = np.concatenate([expand_blocks(seed, (circuit.garbler_inputs, instances)), labels_EI])
    bits = np.empty_like(decoding)
    for piece in _pieces(instances):
        run = _Evaluation(circuit, piece.stop - piece.start, first_instance + piece.start)
        bits[:, piece] = run.evaluate(inputs[:, piece], tables[:, :, piece])
    return bits ^ decoding


class _Garbling:
    """A piece of instances at the garbler."""

    def __init__(self, circuit: Circuit, size: int, delta: Blocks, first_instance: int) -> None:
        self._circuit = circuit
        self._delta_B = np.tile(delta, (size, 1))
        self._slots = np.empty((circuit.slots, size, 2), np.uint64)
        self._tweaks = _tweaks(size, first_instance)
        self._hash = TweakedHash((2, 2, size))
        self._labels = np.empty((2, 2, size, 2), np.uint64)
        """Of the left and right operand, of 0 and 1."""

    def garble(self, inputs: Blocks, tables: Blocks) -> Bits:
        """Fill the tables (ands, 2, B, 2) of label pairs whose 0s are the inputs; colours of the outputs."""
        slots = self._slots
        slots[: len(inputs)] = inputs
        table = iter(tables)
        number = 0
        for gate in self._circuit.gates:
            if gate.is_and:
                self._place(gate.left, gate.left_inverted, self._labels[0])
                self._place(gate.right, gate.right_inverted, self._labels[1])
                self._and(number, next(table), slots[gate.result])
                number += 1
            else:
                np.bitwise_xor(slots[gate.left], slots[gate.right], out=slots[gate.result])
        return np.stack([_colours(slots[slot]) ^ inverted for slot, inverted in self._circuit.results])

    def _place(self, slot: int, inverted: bool, pair: Blocks) -> None:
        pair[int(inverted)] = self._slots[slot]
        np.bitwise_xor(self._slots[slot], self._delta_B, out=pair[1 - int(inverted)])

    def _and(self, gate: int, table: Blocks, result: Blocks) -> None:
        (left_0, _), (right_0, _) = self._labels
        _number_tweaks(self._tweaks, gate)
        (left_hash_0, left_hash_1), (right_hash_0, right_hash_1) = self._hash(self._labels, self._tweaks[:, None])
        generator, evaluator = table
        np.bitwise_xor(left_hash_0, left_hash_1, out=left_hash_1)
        np.bitwise_xor(left_hash_1, _mask(right_0) & self._delta_B, out=generator)
        np.bitwise_xor(right_hash_0, right_hash_1, out=right_hash_1)
        np.bitwise_xor(right_hash_1, left_0, out=evaluator)
        np.bitwise_xor(left_hash_0, right_hash_0, out=left_hash_0)
        left_hash_0 ^= _mask(left_0) & generator
        np.bitwise_xor(left_hash_0, _mask(right_0) & right_hash_1, out=result)


class _Evaluation:
    """A piece of instances at the evaluator."""

    def __init__(self, circuit: Circuit, size: int, first_instance: int) -> None:
        self._circuit = circuit
        self._slots = np.empty((circuit.slots, size, 2), np.uint64)
        self._tweaks = _tweaks(size, first_instance)
        self._hash = TweakedHash((2, size))
        self._labels = np.empty((2, size, 2), np.uint64)

    def evaluate(self, inputs: Blocks, tables: Blocks) -> Bits:
        """Colours of the outputs of one label for each input."""
        slots = self._slots
        slots[: len(inputs)] = inputs
        table = iter(tables)
        number = 0
        for gate in self._circuit.gates:
            if gate.is_and:
                self._labels[0], self._labels[1] = slots[gate.left], slots[gate.right]
                self._and(number, next(table), slots[gate.result])
                number += 1
            else:
                np.bitwise_xor(slots[gate.left], slots[gate.right], out=slots[gate.result])
        return np.stack([_colours(slots[slot]) for slot, _ in self._circuit.results])

    def _and(self, gate: int, table: Blocks, result: Blocks) -> None:
        left, right = self._labels
        generator, evaluator = table
        _number_tweaks(self._tweaks, gate)
        left_hash, right_hash = self._hash(self._labels, self._tweaks)
        left_hash ^= right_hash
        left_hash ^= _mask(left) & generator
        np.bitwise_xor(left_hash, _mask(right) & (evaluator ^ left), out=result)


def _tweaks(size: int, first_instance: int) -> Blocks:
    """Room for the tweaks of the two halves of a gate, (2, B, 2): numbers of instances, beside them of gate halves."""
    tweaks = np.zeros((2, size, 2), np.uint64)
    tweaks[:, :, 0] = np.arange(first_instance, first_instance + size, dtype=np.uint64)
    return tweaks


def _number_tweaks(tweaks: Blocks, gate: int) -> None:
    tweaks[0, :, 1] = 2 * gate
    tweaks[1, :, 1] = 2 * gate + 1


def _colours(labels: Blocks) -> Bits:
    return (labels[..., 0] & np.uint64(1)).astype(np.uint8)


def _mask(labels: Blocks) -> Blocks:
    """All ones where the colour is 1, all zeros where it is 0."""
    return _spread(labels[..., 0] & np.uint64(1))


def _spread(bits: NDArray[np.uint64] | Bits) -> Blocks:
    return _ALL_OR_NOTHING[bits.astype(np.intp)].view(np.uint64).reshape(*bits.shape, 2)


def _table_bytes(circuit: Circuit, instances: int) -> int:
    return 2 * BLOCK_BYTES * circuit.ands * instances


def _pieces(instances: int) -> Iterator[slice]:
    for start in range(0, instances, _PIECE):
        yield slice(start, min(start + _PIECE, instances))
