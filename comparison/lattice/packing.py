"""Where the values of feature maps sit in the slots of ciphertexts. Pure index arithmetic.

A ciphertext's slots are two rows; a row is cut into places of one channel each, side² slots in raster order. Two
things make full use of the slots and of rotations, which move whole rows cyclically:

- Channels fill the places of both rows, over as many ciphertexts as it takes; but if a row's places suffice, the
  channels are repeated over all places with a period that is a power of two, so that a rotation wraps around within
  them, and the second row repeats the first.
- The product of every input channel with every output channel is had in `diagonals` steps: in step k a place meets
  the input channel that sits k places further on (and its like in the other row, if `swaps` is 2). Where fewer output
  channels than places are wanted, places hold parts of sums, which rotations fold together at the end (GAZELLE's
  hybrid product). Where both rows hold the same, the second one starts half of the steps further on.

Legend: I input and O output channels, C either, H W the side, P places of a ciphertext, T taps of a kernel,
K ciphertexts, N slots, S slots of a row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvolutionShape:
    """A convolution with stride 1 and zero padding that keeps the side; a dense layer has kernel 1 and side 1.

    Raises ValueError: a number is not positive, the kernel is even, or the side no power of two.
    """

    inputs: int
    outputs: int
    kernel: int
    """Taps a side; odd."""
    side: int
    """Pixels of a map's side; a power of two."""

    def __post_init__(self) -> None:
        if min(self.inputs, self.outputs, self.kernel, self.side) < 1:
            raise ValueError(f"{self} must have positive numbers only")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if self.side & (self.side - 1):
            raise ValueError(f"side is {self.side}; it must be a power of two")

    @property
    def radius(self) -> int:
        """Of the taps that reach a pixel of the map: at side 1 only the middle one does."""
        return min(self.kernel // 2, self.side - 1)

    @property
    def pixels(self) -> int:
        """Of one channel's map."""
        return self.side**2

    def reaching(self, weights_OIpp: NDArray[np.integer]) -> NDArray[np.int64]:
        """The weights of the taps that reach a pixel of the map.

        Raises ValueError: the weights are not of this shape.
        """
        expected = (self.outputs, self.inputs, self.kernel, self.kernel)
        if weights_OIpp.shape != expected:
            raise ValueError(f"weights of shape {weights_OIpp.shape}; expected {expected}")
        cut = self.kernel // 2 - self.radius
        kept = slice(cut, self.kernel - cut)
        return weights_OIpp[:, :, kept, kept].astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How one convolution's maps sit in ciphertexts of `degree` slots; see the module."""

    shape: ConvolutionShape
    degree: int
    places: int
    """Of one row."""
    input_period: int
    """Channels in a ciphertext before they repeat; all places of both rows if they do not."""
    output_period: int
    input_ciphertexts: int
    output_ciphertexts: int
    diagonals: int
    """Steps in which places meet input channels."""
    swaps: int
    """2 if a place meets the other row's channels, too; else 1."""
    second_row_ahead: int
    """By how many places the second row's input channels start further on."""
    folds: tuple[int, ...]
    """Places by which sums are rotated onto themselves at the end, in this order."""
    folds_rows: bool
    """Whether the two rows are added at the very end."""

    @property
    def row_slots(self) -> int:
        """Slots of one row."""
        return self.degree // 2

    def input_channels(self, row: int, place_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """Channel, counted within its ciphertext, of places of a row."""
        if self.input_period > self.places:
            return row * self.places + place_S
        return (place_S + row * self.second_row_ahead) % self.input_period

    def output_channels(self, row: int, place_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """Channel, counted within its ciphertext, whose sum or part of it accrues at places of a row."""
        if self.output_period > self.places:
            return row * self.places + place_S
        return place_S % self.output_period

    def pack(self, x_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots (K, N) of input maps (I, H, W). Raises ValueError: the maps are not of this shape."""
        shape = self.shape
        if x_CHW.shape != (shape.inputs, shape.side, shape.side):
            raise ValueError(f"maps of shape {x_CHW.shape}; expected {(shape.inputs, shape.side, shape.side)}")
        padded_CP = np.zeros((self.input_ciphertexts * self.input_period, shape.pixels), np.int64)
        padded_CP[: shape.inputs] = x_CHW.reshape(shape.inputs, -1)
        places = np.arange(self.places)
        rows = np.concatenate([self.input_channels(row, places) for row in (0, 1)])
        each = padded_CP.reshape(self.input_ciphertexts, self.input_period, shape.pixels)[:, rows]
        return each.reshape(self.input_ciphertexts, self.degree)

    def spread(self, y_OHW: NDArray[np.int64], onto_KN: NDArray[np.int64]) -> None:
        """Write output maps into the slots where results sit, in place."""
        onto_KN.reshape(self.output_ciphertexts, -1, self.shape.pixels)[self._result_places()] = y_OHW.reshape(
            self.shape.outputs, -1
        )

    def unpack(self, slots_KN: NDArray[np.int64]) -> NDArray[np.int64]:
        """Output maps (O, H, W) from slots (K, N) of results."""
        maps = slots_KN.reshape(self.output_ciphertexts, -1, self.shape.pixels)[self._result_places()]
        return maps.reshape(self.shape.outputs, self.shape.side, self.shape.side)

    def _result_places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ciphertext and place of each output channel's map; both (O,)."""
        return np.divmod(np.arange(self.shape.outputs), self.output_period)


def packing_of(shape: ConvolutionShape, degree: int) -> Packing:
    """The packing of a convolution in ciphertexts of `degree` slots.

    Raises ValueError: a map is larger than half of the slots.
    """
    if shape.pixels > degree // 2:
        raise ValueError(f"a map of {shape.pixels} pixels; a row of {degree} slots holds {degree // 2}")
    places = degree // 2 // shape.pixels
    ins, outs = _period(shape.inputs, places), _period(shape.outputs, places)
    diagonals, swaps, ahead, folds_rows = min(ins, outs, places), 1, 0, False
    if ins > places and outs > places:
        swaps = 2
    elif ins > places:
        folds_rows = True
    elif outs <= places and diagonals > 1:
        diagonals, folds_rows = diagonals // 2, True
        ahead = diagonals
    folds, step = [], outs
    while step < min(ins, places):
        folds.append(step)
        step *= 2
    return Packing(
        shape=shape,
        degree=degree,
        places=places,
        input_period=ins,
        output_period=outs,
        input_ciphertexts=-(-shape.inputs // ins),
        output_ciphertexts=-(-shape.outputs // outs),
        diagonals=diagonals,
        swaps=swaps,
        second_row_ahead=ahead,
        folds=tuple(folds),
        folds_rows=folds_rows,
    )


def _period(channels: int, places: int) -> int:
    """The power of two that holds all channels if one row does; else all places of both rows."""
    return 1 << (channels - 1).bit_length() if channels <= places else 2 * places
