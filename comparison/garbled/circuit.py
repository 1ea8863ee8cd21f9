"""Boolean circuits of XOR and AND with free inversions, their construction, and what they compute in the clear.

A wire or its inverse is a literal, 2 * wire + inverted, so that NOT is no gate. Wire 0 is the constant false, which
never reaches a circuit: the builder folds it away. Only gates that an output needs are kept, and every value lives in
a slot that is taken over once its last reader is done, so a row of labels of all live wires stays in the cache.

Legend: I instances of a circuit that run side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comparison.garbled.bits import Bits

FALSE, TRUE = 0, 1
"""The constant literals."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate: reads two slots, inverted or not, writes one."""

    is_and: bool
    left: int
    right: int
    result: int
    """Slots."""
    left_inverted: bool
    right_inverted: bool
    """Always false for XOR, whose inversions move to its readers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Circuit:
    """A circuit. Slots 0.. hold the garbler's inputs and then the evaluator's when it starts."""

    garbler_inputs: int
    evaluator_inputs: int
    gates: tuple[Gate, ...]
    """In an order in which they can be computed."""
    slots: int
    results: tuple[tuple[int, bool], ...]
    """Slot of each output, and whether it is inverted."""

    @property
    def outputs(self) -> int:
        """Output wires."""
        return len(self.results)

    @property
    def ands(self) -> int:
        """AND gates, which alone cost bytes."""
        return sum(gate.is_and for gate in self.gates)

    def run(self, garbler_bits: Bits, evaluator_bits: Bits) -> Bits:
        """Output bits (outputs, I) of input bits (inputs, I), in the clear."""
        slots = np.zeros((self.slots, garbler_bits.shape[1]), np.uint8)
        slots[: self.garbler_inputs] = garbler_bits
        slots[self.garbler_inputs :][: self.evaluator_inputs] = evaluator_bits
        for gate in self.gates:
            left, right = slots[gate.left] ^ gate.left_inverted, slots[gate.right] ^ gate.right_inverted
            slots[gate.result] = left & right if gate.is_and else left ^ right
        return np.stack([slots[slot] ^ inverted for slot, inverted in self.results])


class CircuitBuilder:
    """Builds a circuit from literals; numbers are sequences of literals, the lowest bit first."""

    def __init__(self, *, garbler_inputs: int, evaluator_inputs: int) -> None:
        self._garbler_inputs = garbler_inputs
        self._evaluator_inputs = evaluator_inputs
        self._inputs = garbler_inputs + evaluator_inputs
        self._gates: list[tuple[bool, int, int]] = []
        """Kind and literals of each gate; gate number g drives wire 1 + inputs + g."""

    def garbler(self, count: int, first: int = 0) -> list[int]:
        """Literals of inputs of the garbler."""
        return [2 * (1 + wire) for wire in range(first, first + count)]

    def evaluator(self, count: int, first: int = 0) -> list[int]:
        """Literals of inputs of the evaluator."""
        return self.garbler(count, self._garbler_inputs + first)

    def xor(self, left: int, right: int) -> int:
        """Exclusive or; free."""
        inverted = (left ^ right) & 1
        left, right = left & ~1, right & ~1
        if left == right:
            return inverted
        if FALSE in (left, right):
            return (left | right) ^ inverted
        return self._gate(False, left, right) ^ inverted

    def both(self, left: int, right: int) -> int:
        """And: one AND gate, unless an operand is constant or they are the same wire."""
        if left == right or right == TRUE:
            return left
        if left == TRUE:
            return right
        if left ^ right == 1 or FALSE in (left, right):
            return FALSE
        return self._gate(True, left, right)

    def either(self, left: int, right: int) -> int:
        """Or: one AND gate."""
        return self.both(left ^ 1, right ^ 1) ^ 1

    def choose(self, condition: int, when_true: int, when_false: int) -> int:
        """One of two bits: one AND gate."""
        return self.xor(when_false, self.both(condition, self.xor(when_true, when_false)))

    def add(self, left: Sequence[int], right: Sequence[int], carry: int) -> tuple[list[int], int]:
        """Sum of two numbers of equal width and a carry, and the carry out: one AND gate a bit."""
        total = []
        for one, other in zip(left, right, strict=True):
            differs = self.xor(one, carry)
            total.append(self.xor(differs, other))
            carry = self.xor(carry, self.both(differs, self.xor(other, carry)))
        return total, carry

    def subtract(self, left: Sequence[int], right: Sequence[int]) -> tuple[list[int], int]:
        """Difference modulo 2**width, and whether left >= right: one AND gate a bit."""
        return self.add(left, [bit ^ 1 for bit in right], TRUE)

    def build(self, outputs: Sequence[int]) -> Circuit:
        """The circuit of these outputs.

        Raises ValueError: an output is constant, so that garbling it makes no sense.
        """
        if FALSE in {literal & ~1 for literal in outputs}:
            raise ValueError("an output of the circuit is constant; leave it out")
        last_reader = self._last_readers(outputs)
        slot_of = {1 + wire: wire for wire in range(self._inputs)}
        free: list[int] = []
        slots = self._inputs
        gates = []
        for number, (is_and, left, right) in enumerate(self._gates):
            wire = 1 + self._inputs + number
            if wire not in last_reader:
                continue
            if free:
                result = free.pop()
            else:
                result, slots = slots, slots + 1
            gates.append(Gate(is_and, slot_of[left >> 1], slot_of[right >> 1], result, bool(left & 1), bool(right & 1)))
            slot_of[wire] = result
            free += [slot_of[read] for read in {left >> 1, right >> 1} if last_reader[read] == wire]
        return Circuit(
            garbler_inputs=self._garbler_inputs,
            evaluator_inputs=self._evaluator_inputs,
            gates=tuple(gates),
            slots=slots,
            results=tuple((slot_of[literal >> 1], bool(literal & 1)) for literal in outputs),
        )

    def _gate(self, is_and: bool, left: int, right: int) -> int:
        self._gates.append((is_and, left, right))
        return 2 * (self._inputs + len(self._gates))

    def _last_readers(self, outputs: Sequence[int]) -> dict[int, int]:
        """The last wire that reads each wire that is needed; of outputs, one past all wires."""
        end = 1 + self._inputs + len(self._gates)
        last = {literal >> 1: end for literal in outputs}
        for number in reversed(range(len(self._gates))):
            wire = 1 + self._inputs + number
            if wire in last:
                for literal in self._gates[number][1:]:
                    last.setdefault(literal >> 1, wire)
        return last
