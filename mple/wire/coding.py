"""What the codes of one key are packed by: public numbers that a site fits to sample blocks and sends with its basis.

They say how far each coefficient spreads, and how many coefficients a block has. Codes are unpacked with the very
numbers that they were packed with, so a coding is whole numbers and nothing else.

Legend: G cores of a key (1 where blocks share one, else K), d coefficients of a block, R sample blocks.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

LEVELS_AN_OCTAVE = 8
_LOWEST = -16
"""Deviations are 2^-16 to almost 2^16 in steps of an eighth of an octave."""
_MOST_LEVEL = 255
_HEADER = struct.Struct("<BII")
_FORM = 1


class CodingError(ValueError):
    """Bytes that are no coding of the plan's sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """The numbers for one key.

    Guarantees: `from_bytes(to_bytes())` packs and unpacks the same bytes as the original, on every machine.
    """

    levels_Gd: NDArray[np.uint8]
    """Root mean square of each coefficient: 2^(level / 8 - 16)."""

    @classmethod
    def fit(cls, c_GRd: Sequence[NDArray[np.float32]], step: float) -> Self:
        """Fit to the coefficients of sample blocks, for each core an array (R, d), in steps of this size.

        Raises ValueError: there are no blocks, no coefficients, not as many for each core, or one is not finite.
        """
        widths = {c_Rd.shape[1] for c_Rd in c_GRd if c_Rd.ndim == 2 and len(c_Rd)}
        if len(widths) != 1 or not min(widths) or not all(len(c_Rd) for c_Rd in c_GRd):
            raise ValueError(f"sample coefficients of the shapes {[c_Rd.shape for c_Rd in c_GRd][:4]}; needs blocks")
        squares_Gd = np.stack([np.square(c_Rd, dtype=np.float64).mean(0) for c_Rd in c_GRd])
        if not np.isfinite(squares_Gd).all():
            raise ValueError("a sample coefficient is NaN or infinite")
        least = (step / 64) ** 2  # narrower ones are coded alike
        levels_Gd = np.rint((np.log2(np.maximum(squares_Gd, least)) / 2 - _LOWEST) * LEVELS_AN_OCTAVE)
        return cls(levels_Gd.clip(0, _MOST_LEVEL).astype(np.uint8))

    @property
    def cores(self) -> int:
        """G."""
        return len(self.levels_Gd)

    @property
    def columns(self) -> int:
        """d, coefficients of a block."""
        return int(self.levels_Gd.shape[1])

    @property
    def deviations_Gd(self) -> NDArray[np.float32]:
        """Root mean square of each coefficient, in units of normalised pixels."""
        return np.exp2(self.levels_Gd / LEVELS_AN_OCTAVE + _LOWEST).astype(np.float32)

    def to_bytes(self) -> bytes:
        """All of it."""
        return _HEADER.pack(_FORM, self.cores, self.columns) + self.levels_Gd.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, cores: int, core_side: int) -> Self:
        """Read it back; bytes from the wire are not trusted.

        Raises CodingError: these are no bytes of a coding for so many cores, with 1 to `core_side` coefficients.
        """
        if len(data) < _HEADER.size:
            raise CodingError(f"{len(data)} bytes are no coding")
        form, had, columns = _HEADER.unpack_from(data)
        if (form, had) != (_FORM, cores) or not 1 <= columns <= core_side:
            raise CodingError(
                f"a coding of form {form} with {had} x {columns} coefficients; due are form {_FORM}, {cores} cores and "
                f"at most {core_side}"
            )
        if len(data) != _HEADER.size + cores * columns:
            raise CodingError(f"{len(data)} bytes of a coding instead of {_HEADER.size + cores * columns}")
        return cls(np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(cores, columns).copy())
