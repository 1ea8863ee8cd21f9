"""The activation between two linear layers as a circuit on shares: sum, ReLU, shift, max-pool, and a fresh mask.

For shares a of the garbler and b of the evaluator modulo an odd t, with y = a + b mod t centred around 0, and a mask r
of the garbler, the evaluator learns (max(y, 0) >> shift) - r mod t; pooled, y is the largest of a window. These are the
circuits of GAZELLE and MiniONN (sum, compare, choose, subtract), with fewer AND gates. n = bits of t, K = (t - 1) / 2:

- the sum: d = a - t + b is n ANDs and its carry w tells a + b >= t; the garbler gives a - t, which costs nothing.
- reduction and sign at once: g = y - K = d + not w + (K if not w else -K). Its top bit is the sign of y, and since
  t = 2 K + 1 the odd 1 is the carry in, so the second adder, too, is n - 1 ANDs, with no choice of operands.
- g is not brought back to y: when K is a multiple of 2**shift, (y >> shift) = (g >> shift) + K / 2**shift, and that
  constant goes into the mask on the garbler's side. ReLU is then one AND for each of the Z = n - 1 - shift bits left.
- the mask: x - r + (t if x < r), with the comparison's result as the carry in, since t = 1 modulo 2**Z. The garbler
  gives r's low bits, whether it has higher ones, and -r mod 2**n: Z + 1 and n - 1 ANDs.

In all 3 n - 1 + 2 Z: 83 for 20 bits and a shift of 7. A pooled window of 4 compares and chooses on Z + 1 bits (the sign
above the rest, which is in order already) and has ReLU and mask once: 4 (2 n - 1) + 6 (Z + 1) + n + 2 Z.
Where t - 1 has too few factors of 2 for that, slightly longer circuits give the same.

Legend: W shares of a window, I instances, shares and masks int64 residues in [0, t), bits (wires, I).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comparison.garbled.bits import Bits, bits_of, numbers_of
from comparison.garbled.circuit import FALSE, TRUE, Circuit, CircuitBuilder

_MOST_BITS = 60


def relu_circuit(modulus: int, shift: int) -> ActivationCircuit:
    """The circuit of max(y, 0) >> shift.

    Args:
        modulus: t, odd and above 4; fewest gates when t - 1 is a multiple of a high power of two.
        shift: Bits that are dropped, below those of t less one.

    Raises ValueError: the modulus is even or too small or too large, or nothing would be left after the shift.
    """
    return pooled_relu_circuit(modulus, shift, window=1)


def pooled_relu_circuit(modulus: int, shift: int, window: int = 4) -> ActivationCircuit:
    """The circuit of max(y of a window, 0) >> shift; arguments and errors as of `relu_circuit`."""
    if modulus % 2 == 0 or modulus < 5 or modulus.bit_length() > _MOST_BITS:
        raise ValueError(f"modulus {modulus}; it must be odd, above 4 and below 2**{_MOST_BITS}")
    if not 0 <= shift < modulus.bit_length() - 1:
        raise ValueError(f"a shift of {shift} leaves no bit of a ReLU modulo {modulus}")
    if window < 1:
        raise ValueError(f"a window of {window} values; it must have one or more")
    return ActivationCircuit(modulus=modulus, shift=shift, window=window, circuit=_build(modulus, shift, window))


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationCircuit:
    """An activation, with how shares become its inputs.

    Guarantees: exact for all shares and masks, with y in [-(t-1)/2, (t-3)/2]. The one residue (t-1)/2 counts as
    negative, and gives 0: deciding it, too, would take a dozen more gates.
    """

    modulus: int
    """Of the shares, t."""
    shift: int
    window: int
    """Shares of a pooled window, W; 1 without a pool."""
    circuit: Circuit

    @property
    def bits(self) -> int:
        """Bits of a residue: the evaluator's input wires a share, and the output wires."""
        return self.modulus.bit_length()

    def garbler_bits(self, shares_WI: NDArray[np.int64], masks_I: NDArray[np.int64]) -> Bits:
        """The garbler's input wires, (garbler_inputs, I), for its shares (W, I) or, of one, (I,), and its masks.

        Raises ValueError: shapes don't fit, or a value is no residue.
        """
        shares_WI = self._checked(shares_WI)
        if masks_I.shape != shares_WI.shape[1:]:
            raise ValueError(f"masks of shape {masks_I.shape} for {shares_WI.shape[1]} instances")
        self._check_residues(masks_I, "mask")
        form = _MaskForm.of(self.modulus, self.shift)
        inputs = [bits_of(share_I + (1 << self.bits) - self.modulus, self.bits) for share_I in shares_WI]
        return np.concatenate([*inputs, form.inputs((masks_I + form.offset) % self.modulus)])

    def evaluator_bits(self, shares_WI: NDArray[np.int64]) -> Bits:
        """The evaluator's input wires, (W * bits, I), for its shares; errors as of `garbler_bits`."""
        return np.concatenate([bits_of(share_I, self.bits) for share_I in self._checked(shares_WI)])

    def residues(self, bits_OI: Bits) -> NDArray[np.int64]:
        """The activations less their masks, mod t, from the output wires."""
        return numbers_of(bits_OI)

    def plain(self, values_WI: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the circuit computes before masking, (I,), of the sums of shares as residues (W, I) or (I,)."""
        values_WI = self._checked(values_WI)
        centred_WI = np.where(values_WI < self.modulus // 2, values_WI, values_WI - self.modulus)
        activations_I: NDArray[np.int64] = np.maximum(centred_WI.max(0), 0) >> self.shift
        return activations_I

    def _checked(self, shares_WI: NDArray[np.int64]) -> NDArray[np.int64]:
        if shares_WI.ndim == 1 and self.window == 1:
            shares_WI = shares_WI[None]
        if shares_WI.ndim != 2 or len(shares_WI) != self.window:
            raise ValueError(f"shares of shape {shares_WI.shape}, needs ({self.window}, instances)")
        self._check_residues(shares_WI, "share")
        return shares_WI

    def _check_residues(self, values: NDArray[np.int64], what: str) -> None:
        if values.size and not (values.min() >= 0 and values.max() < self.modulus):
            raise ValueError(f"a {what} in {values.min()}..{values.max()}; residues are in 0..{self.modulus - 1}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _MaskForm:
    """How the mask r enters: what is added to it, and the wires that tell it."""

    bits: int
    width: int
    """Z, bits of the masked number x."""
    offset: int
    """What x has above the activation."""
    short: bool
    """Whether t = 1 modulo 2**Z, so that the comparison can be made on Z bits and serve as a carry."""

    @classmethod
    def of(cls, modulus: int, shift: int) -> _MaskForm:
        width = modulus.bit_length() - 1 - shift
        half = modulus // 2
        return cls(
            bits=modulus.bit_length(),
            width=width,
            offset=0 if half % (1 << shift) else (1 << width) - (half >> shift),
            short=modulus % (1 << width) == 1,
        )

    @property
    def wires(self) -> int:
        """Input wires of the garbler for a mask."""
        return self.width + 1 + self.bits if self.short else self.bits

    def inputs(self, masks_I: NDArray[np.int64]) -> Bits:
        """Those wires' bits."""
        if not self.short:
            return bits_of(masks_I, self.bits)
        high_1I = (masks_I >> self.width != 0).astype(np.uint8)[None]
        return np.concatenate([bits_of(masks_I, self.width), high_1I, bits_of(-masks_I, self.bits)])

    def subtract(self, build: CircuitBuilder, x: Sequence[int], mask: Sequence[int], modulus: int) -> list[int]:
        """x - r mod t."""
        missing = [FALSE] * (self.bits - self.width)
        if not self.short:
            difference, fits = build.subtract([*x, *missing], mask)
            return build.add(difference, _choice(fits, 0, modulus, self.bits), FALSE)[0]
        low, high, minus = mask[: self.width], mask[self.width], mask[self.width + 1 :]
        less = build.either(high, build.subtract(x, low)[1] ^ 1)
        wrapped = _choice(less, modulus - 1, 0, self.bits)
        return build.add([*x, *wrapped[self.width :]], minus, less)[0]


def _build(modulus: int, shift: int, window: int) -> Circuit:
    bits, form = modulus.bit_length(), _MaskForm.of(modulus, shift)
    build = CircuitBuilder(garbler_inputs=window * bits + form.wires, evaluator_inputs=window * bits)
    keys = [
        _signed_activation(
            build, build.garbler(bits, place * bits), build.evaluator(bits, place * bits), modulus, shift
        )
        for place in range(window)
    ]
    while len(keys) > 1:
        pairs = zip(keys[::2], keys[1::2], strict=False)
        keys = [_larger(build, one, other) for one, other in pairs] + keys[len(keys) & ~1 :]
    *magnitude, positive = keys[0]
    zero = [form.offset >> place & 1 for place in range(form.width)]
    x = [build.choose(positive, bit, constant) for bit, constant in zip(magnitude, zero, strict=True)]
    return build.build(form.subtract(build, x, build.garbler(form.wires, window * bits), modulus))


def _signed_activation(
    build: CircuitBuilder, less_t: Sequence[int], share: Sequence[int], modulus: int, shift: int
) -> list[int]:
    """y >> shift, above it whether y counts as positive; less by K / 2**shift, modulo 2**Z, if that is whole."""
    bits, half = modulus.bit_length(), modulus // 2
    total, wrapped = build.add(less_t, share, FALSE)
    less_half, _ = build.add(total, _choice(wrapped, -half, half, bits), wrapped ^ 1)
    positive = less_half[-1]
    if half % (1 << shift) == 0:
        return [*less_half[shift:-1], positive]
    value, _ = build.add(less_half, _choice(FALSE, 0, half, bits), FALSE)
    return [*value[shift:-1], positive]


def _choice(condition: int, when_true: int, when_false: int, bits: int) -> list[int]:
    """One of two constants; free."""
    literals = {(0, 0): FALSE, (1, 1): TRUE, (1, 0): condition, (0, 1): condition ^ 1}
    return [literals[when_true >> place & 1, when_false >> place & 1] for place in range(bits)]


def _larger(build: CircuitBuilder, one: Sequence[int], other: Sequence[int]) -> list[int]:
    _, not_less = build.subtract(one, other)
    return [build.choose(not_less, left, right) for left, right in zip(one, other, strict=True)]
