"""In which order a packed convolution rotates, multiplies and adds; what that costs; which keys it takes. Pure.

A place must meet the input channel k places further on for every step k, and each of its pixels the pixels around it.
Both are rotations of rows. Step k = m·group + j splits them: the inputs are rotated by all taps and by j places before
they are multiplied (the small rotations), the sums by m·group places afterwards (the large ones). group = 1 is
GAZELLE's output rotation, group = all steps its input rotation; between them lie the mixed orders, and the cheapest of
all is taken. Where a place meets the other row, too, either the inputs or the sums are swapped.

Rotations go step by step from one another, those of sums in Horner's order, so that few keys do: by one pixel, by one
line, by one place, by one group.

Legend: I input, O output channels, T taps, S slots of a row, N slots.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comparison.lattice.packing import Packing

SWAP = 0
"""The step that stands for swapping the two rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitCosts:
    """Milliseconds of single operations, measured at degree 4096 on one core of a Zen 4 machine."""

    rotation: float = 0.48
    transform: float = 0.115
    """Of a ciphertext to NTT form, or back."""
    product: float = 0.055
    """A multiplication by a plaintext in NTT form, and adding the product."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallRotation:
    """One rotation of the inputs, made from another."""

    shift: int
    """Slots to the left in all, modulo a row's."""
    parent: int
    """Place in the list of the rotation that it's made from; -1 for the input as it came."""
    step: int
    """Slots to the left from there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """Which weight each slot is multiplied by, for one large and one small rotation."""

    weight_N: NDArray[np.int64]
    """Place of the weight in (outputs, inputs, taps) of one ciphertext each, padded to their periods."""
    meets_N: NDArray[np.bool_]
    """Whether the slot is multiplied at all."""


@dataclass(frozen=True, kw_only=True)
class RotationsPlan:
    """One order of rotations for a packing."""

    packing: Packing
    group: int
    """Steps that small rotations make; a power of two that divides `packing.diagonals`."""
    swaps_inputs: bool
    """Whether inputs, not sums, are swapped where a place meets the other row."""

    @cached_property
    def small(self) -> tuple[SmallRotation, ...]:
        """Rotations of every input ciphertext; the first is by nothing."""
        packing, radius = self.packing, self.packing.shape.radius
        found = [SmallRotation(shift=0, parent=-1, step=0)]
        known = {0: 0}

        def rotated(parent: int, step: int) -> int:
            shift = (found[parent].shift + step) % packing.row_slots
            if shift not in known:
                known[shift] = len(found)
                found.append(SmallRotation(shift=shift, parent=parent, step=step % packing.row_slots))
            return known[shift]

        def walks(start: int, step: int) -> list[int]:
            reached = [start]
            for sign in (1, -1):
                here = start
                for _ in range(radius):
                    here = rotated(here, sign * step)
                    reached.append(here)
            return reached

        place = 0
        for number in range(self.group):
            place = rotated(place, packing.shape.pixels) if number else 0
            for column in walks(place, 1):
                walks(column, packing.shape.side)
        return tuple(found)

    @property
    def large(self) -> int:
        """How many large rotations there are, that by nothing included."""
        return self.packing.diagonals // self.group

    @property
    def large_step(self) -> int:
        """Slots from one large rotation to the next."""
        return self.group * self.packing.shape.pixels

    @property
    def input_swaps(self) -> int:
        """2 if the small rotations are made of the swapped inputs, too; else 1."""
        return self.packing.swaps if self.swaps_inputs else 1

    @property
    def output_swaps(self) -> int:
        """2 if sums are kept that will be swapped; else 1."""
        return 1 if self.swaps_inputs else self.packing.swaps

    @property
    def fold_steps(self) -> tuple[int, ...]:
        """Rotations of every sum at the end, each added to what it's made from."""
        steps = tuple(places * self.packing.shape.pixels for places in self.packing.folds)
        return (*steps, SWAP) if self.packing.folds_rows else steps

    @property
    def key_steps(self) -> frozenset[int]:
        """Steps that rotation keys are needed for; 0 is the swap of rows."""
        steps = {rotation.step for rotation in self.small[1:]} | set(self.fold_steps)
        if self.large > 1:
            steps.add(self.large_step)
        if self.packing.swaps == 2:
            steps.add(SWAP)
        return frozenset(steps)

    @property
    def rotations(self) -> int:
        """Rotations and swaps in all."""
        packing = self.packing
        of_one_input = self.input_swaps * len(self.small) - 1
        of_one_output = self.output_swaps * self.large - 1 + len(self.fold_steps)
        return packing.input_ciphertexts * of_one_input + packing.output_ciphertexts * of_one_output

    @property
    def transforms(self) -> int:
        """Of ciphertexts to NTT form and back."""
        packing = self.packing
        forth = packing.input_ciphertexts * self.input_swaps * len(self.small)
        return forth + packing.output_ciphertexts * self.output_swaps * self.large

    @cached_property
    def multiplications(self) -> int:
        """Ciphertexts multiplied by plaintexts, if no plaintext is all zeros; exact."""
        packing, shape = self.packing, self.packing.shape
        full_outputs, full_inputs = packing.output_ciphertexts - 1, packing.input_ciphertexts - 1
        left_O = shape.outputs - full_outputs * packing.output_period
        left_I = shape.inputs - full_inputs * packing.input_period
        taps = (2 * shape.radius + 1) ** 2
        total = 0
        for meeting in self.meetings():
            output_N, input_N = np.divmod(meeting.weight_N[meeting.meets_N] // taps, packing.input_period)
            in_last_output, in_last_input = output_N < left_O, input_N < left_I
            total += full_outputs * full_inputs * bool(output_N.size)
            total += full_outputs * bool(in_last_input.any()) + full_inputs * bool(in_last_output.any())
            total += bool((in_last_output & in_last_input).any())
        return total

    def meetings(self) -> Iterator[Meeting]:
        """All, by swap of sums, large rotation, swap of inputs, and small rotation."""
        for output_swap in range(self.output_swaps):
            for large in range(self.large):
                yield from self.meetings_of(output_swap, large)

    def meetings_of(self, output_swap: int, large: int) -> Iterator[Meeting]:
        """Those of one sum, by swap of inputs and small rotation."""
        for input_swap in range(self.input_swaps):
            for rotation in self.small:
                yield self._meeting(output_swap, large, input_swap, rotation.shift)

    def _meeting(self, output_swap: int, large: int, input_swap: int, shift: int) -> Meeting:
        """At slot s of the products: the output place sits a large rotation back, the input place a small one ahead."""
        packing, side = self.packing, self.packing.shape.side
        radius, pixels = packing.shape.radius, packing.shape.pixels
        slot_S = np.arange(packing.row_slots)
        output_S, output_pixel_S = np.divmod((slot_S - large * self.large_step) % packing.row_slots, pixels)
        input_S, input_pixel_S = np.divmod((slot_S + shift) % packing.row_slots, pixels)
        down_S = input_pixel_S // side - output_pixel_S // side
        right_S = input_pixel_S % side - output_pixel_S % side
        step_S = (input_S - output_S) % packing.places
        meets_S = (np.abs(down_S) <= radius) & (np.abs(right_S) <= radius)
        meets_S &= (step_S < packing.diagonals) & (step_S // self.group == large)
        tap_S = (down_S + radius) * (2 * radius + 1) + right_S + radius
        channels = [
            packing.output_channels(row ^ output_swap, output_S) * packing.input_period
            + packing.input_channels(row ^ input_swap, input_S)
            for row in (0, 1)
        ]
        weight_N = np.concatenate(channels) * (2 * radius + 1) ** 2 + np.tile(tap_S, 2)
        meets_N = np.tile(meets_S, 2)
        return Meeting(weight_N=np.where(meets_N, weight_N, 0), meets_N=meets_N)


def cheapest_plan(packing: Packing, costs: UnitCosts | None = None) -> RotationsPlan:
    """The order that takes least time by the costs of single operations."""
    costs = costs or UnitCosts()
    plans = [
        RotationsPlan(packing=packing, group=1 << power, swaps_inputs=swaps_inputs)
        for power in range(packing.diagonals.bit_length())
        for swaps_inputs in ([False, True] if packing.swaps == 2 else [False])
    ]
    return min(plans, key=lambda plan: milliseconds(plan, costs))


def milliseconds(plan: RotationsPlan, costs: UnitCosts) -> float:
    """Expected time of a plan; multiplications are counted as if every pair of rotations had one."""
    packing = plan.packing
    products = len(plan.small) * plan.large * packing.swaps * packing.input_ciphertexts * packing.output_ciphertexts
    return plan.rotations * costs.rotation + plan.transforms * costs.transform + products * costs.product
