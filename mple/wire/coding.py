"""What the codes of one key are packed by: public numbers that a site fits to sample blocks and sends with its basis.

They say how far each coefficient spreads, and how wide a sub-band will be, given what is known before it comes
(`mple.wire.contexts`). Codes are unpacked with the very numbers that they were packed with, so a coding is whole
numbers and nothing else. They are sums over many pictures' magnitudes, without signs: none tells how columns of similar
spread were rotated among themselves.

Legend: G cores of a key (1 where blocks share one, else K), d coefficients of a block, R sample blocks, S sub-bands,
F features, K blocks of a picture, B samples, n = K·B.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mple.wire.coefficient_models import TABLES, table_bits
from mple.wire.contexts import (
    CLASSES,
    FEATURES,
    FIRST_FEATURES,
    ONE,
    FirstBand,
    Magnitudes,
    classes_of,
    sub_bands,
)

LEVELS_AN_OCTAVE = 8
_LOWEST = -16
"""Deviations are 2^-16 to almost 2^16 in steps of an eighth of an octave."""
_MOST_LEVEL = 255
_MOST_WEIGHT = 2**24
_HEADER = struct.Struct("<BIIHHB")
_FORM = 1
_MOST_SAMPLES = 30_000
"""Blocks that weights and tables are fitted to."""
_ROUNDS = 100
_A_BIT = 0.065
"""What a zero saves, in steps: it pays to round down that much more for each bit that a code of 1 costs more than 0."""
_LATEST = 0.75


class CodingError(ValueError):
    """Bytes that are no coding of the plan's sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """The numbers for one key.

    Guarantees: `from_bytes(to_bytes())` packs and unpacks the same bytes as the original, on every machine.
    """

    levels_Gd: NDArray[np.uint8]
    """Root mean square of each coefficient: 2^(level / 8 - 16)."""
    grid: tuple[int, int]
    """Rows and columns of tiles; (1, 1) where blocks have no place in the picture."""
    start: int
    """Table of the first sub-band where nothing is known."""
    weights_SF: NDArray[np.uint32]
    """What features say of the magnitude of a sub-band's codes, in units of 2^-16."""
    tables_SC: NDArray[np.uint8]
    """By sub-band and class."""

    @classmethod
    def fit(cls, c_GRd: Sequence[NDArray[np.float32]], step: float, *, grid: tuple[int, int] = (1, 1)) -> Self:
        """Fit to the coefficients of sample blocks, in steps of this size.

        Args:
            c_GRd: For each core an array (R, d), rows in the order of pictures and within one of blocks.
            step: The codec's.
            grid: Rows and columns of a picture's tiles, which lie beside each other; left out where they do not.

        Raises ValueError: there are no blocks, no coefficients, not as many for each core, or one is not finite, or
        they are no whole pictures of the grid.
        """
        c_KBd = _by_place(c_GRd, grid)
        squares_Gd = np.stack([np.square(c_Rd, dtype=np.float64).mean(0) for c_Rd in c_GRd])
        if not np.isfinite(squares_Gd).all():
            raise ValueError("a sample coefficient is NaN or infinite")
        least = (step / 64) ** 2  # narrower ones are coded alike
        levels_Gd = np.rint((np.log2(np.maximum(squares_Gd, least)) / 2 - _LOWEST) * LEVELS_AN_OCTAVE)
        levels_Gd = levels_Gd.clip(0, _MOST_LEVEL).astype(np.uint8)
        late_Kd = np.resize(_late(levels_Gd, step), (len(c_KBd), levels_Gd.shape[1]))
        codes_dKB = _rounded(c_KBd, step, late_Kd[:, None]).transpose(2, 0, 1).astype(np.int32)
        start, weights_SF, tables_SC = _fitted(codes_dKB, grid, predicted=len(c_GRd) == 1 and grid != (1, 1))
        return cls(levels_Gd, grid, start, weights_SF, tables_SC)

    @property
    def cores(self) -> int:
        """G."""
        return len(self.levels_Gd)

    @property
    def columns(self) -> int:
        """d, coefficients of a block."""
        return int(self.levels_Gd.shape[1])

    @property
    def predicted(self) -> bool:
        """Whether the first sub-band is predicted from neighbouring tiles: they share a core."""
        return self.cores == 1 and self.grid != (1, 1)

    @property
    def deviations_Gd(self) -> NDArray[np.float32]:
        """Root mean square of each coefficient, in units of normalised pixels."""
        return _deviations(self.levels_Gd).astype(np.float32)

    def codes(self, c_BKd: NDArray[np.float32], step: float) -> NDArray[np.float32]:
        """Coefficients in whole steps: the nearest, but that a magnitude is rounded up to n only where it is more than
        n - 1 + u, u from 1/2 to 3/4: the later, the rarer codes that are not 0 are."""
        return _rounded(c_BKd, step, _late(self.levels_Gd, step))

    def to_bytes(self) -> bytes:
        """All of it."""
        header = _HEADER.pack(_FORM, self.cores, self.columns, *self.grid, self.start)
        numbers = self.levels_Gd.tobytes() + self.weights_SF.astype("<u4").tobytes() + self.tables_SC.tobytes()
        return header + numbers

    @classmethod
    def from_bytes(cls, data: bytes, *, cores: int, core_side: int) -> Self:
        """Read it back; bytes from the wire are not trusted.

        Raises CodingError: these are no bytes of a coding for so many cores, with 1 to `core_side` coefficients.
        """
        if len(data) < _HEADER.size:
            raise CodingError(f"{len(data)} bytes are no coding")
        form, had, columns, rows, across, start = _HEADER.unpack_from(data)
        if (form, had) != (_FORM, cores) or not 1 <= columns <= core_side:
            raise CodingError(
                f"a coding of form {form} with {had} x {columns} coefficients; due are form {_FORM}, {cores} cores and "
                f"at most {core_side}"
            )
        count = len(sub_bands(columns))
        due = _HEADER.size + cores * columns + count * (4 * FEATURES + CLASSES)
        if len(data) != due:
            raise CodingError(f"{len(data)} bytes of a coding instead of {due}")
        levels = np.frombuffer(data, np.uint8, cores * columns, _HEADER.size)
        weights = np.frombuffer(data, "<u4", count * FEATURES, _HEADER.size + levels.size)
        tables = np.frombuffer(data, np.uint8, count * CLASSES, _HEADER.size + levels.size + 4 * weights.size)
        if not rows or not across or (cores > 1 and rows * across not in (1, cores)):
            raise CodingError(f"a coding for {rows} x {across} tiles and {cores} cores")
        if max(start, int(tables.max())) >= TABLES or int(weights.max()) > _MOST_WEIGHT:
            raise CodingError(f"a coding names a table beyond {TABLES - 1}, or a weight beyond {_MOST_WEIGHT}")
        return cls(
            levels.reshape(cores, columns).copy(),
            (rows, across),
            start,
            weights.astype(np.uint32).reshape(count, FEATURES),
            tables.reshape(count, CLASSES).copy(),
        )


def _by_place(c_GRd: Sequence[NDArray[np.float32]], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Sample blocks as (K, B, d); those that have no place count as pictures of one block each."""
    shapes = [c_Rd.shape for c_Rd in c_GRd]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2 or not all(shapes[0]):
        raise ValueError(f"sample coefficients of the shapes {shapes[:4]}; needs blocks, as many for each core")
    tiles, columns = grid[0] * grid[1], shapes[0][1]
    if len(c_GRd) == 1:
        if len(c_GRd[0]) % tiles:
            raise ValueError(f"{len(c_GRd[0])} sample blocks are no whole pictures of {grid[0]} x {grid[1]} tiles")
        c_BKd = c_GRd[0].reshape(-1, tiles, columns)[: max(1, _MOST_SAMPLES // tiles)]
        return c_BKd.swapaxes(0, 1)
    if tiles not in (1, len(c_GRd)):
        raise ValueError(f"{len(c_GRd)} cores and {grid[0]} x {grid[1]} tiles")
    c_KBd = np.stack([c_Rd[: max(1, _MOST_SAMPLES // len(c_GRd))] for c_Rd in c_GRd])
    return c_KBd


def _deviations(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(np.exp2(levels / LEVELS_AN_OCTAVE + _LOWEST))


def _late(levels_Gd: NDArray[np.uint8], step: float) -> NDArray[np.float32]:
    """u of `Coding.codes`."""
    theta_Gd = np.exp(-(2**0.5) * step / _deviations(levels_Gd))
    root_Gd = theta_Gd**0.5
    bits_Gd = np.log2(np.maximum(2 * (1 - root_Gd) / np.maximum(root_Gd * (1 - theta_Gd), 1e-9), 1.0))
    return np.asarray(np.minimum(0.5 + _A_BIT * bits_Gd, _LATEST), np.float32)


def _rounded(c: NDArray[np.float32], step: float, late: NDArray[np.float32]) -> NDArray[np.float32]:
    steps = np.multiply(c, np.float32(1 / step), dtype=np.float32)
    steps += np.copysign(1 - late, steps)
    return np.trunc(steps, out=steps)


def _fitted(
    codes_dKB: NDArray[np.int32], grid: tuple[int, int], *, predicted: bool
) -> tuple[int, NDArray[np.uint32], NDArray[np.uint8]]:
    """Start, weights and tables for sample codes."""
    columns, _, samples = codes_dKB.shape
    if not predicted and grid == (1, 1):
        codes_dKB = codes_dKB.reshape(columns, 1, -1)
        samples = codes_dKB.shape[2]
    parts = sub_bands(columns)
    weights_SF = np.zeros((len(parts), FEATURES), np.uint32)
    tables_SC = np.zeros((len(parts), CLASSES), np.uint8)
    magnitudes = Magnitudes(len(parts), grid, samples)
    for number, (low, high) in enumerate(parts):
        codes_wn = codes_dKB[low:high].reshape(high - low, -1)
        if number:
            features_Fn = magnitudes.features()
            learnt = codes_wn
        else:
            learnt, features_Fn, start = _first(codes_dKB[low:high], grid, predicted=predicted)
            magnitudes.add_first(codes_wn)
        sums_n = np.abs(learnt).sum(0, dtype=np.float64)
        weights_F = _weights(features_Fn, sums_n / (high - low))
        weights_SF[number, : len(weights_F)] = weights_F
        tables_SC[number] = _tables(learnt, classes_of(weights_F.astype(np.float64) @ features_Fn))
        magnitudes.add(learnt if number or not predicted else _all_missed(codes_dKB[low:high], grid))
    return start, weights_SF, tables_SC


def _first(
    codes_wKB: NDArray[np.int32], grid: tuple[int, int], *, predicted: bool
) -> tuple[NDArray[np.int32], NDArray[np.float64], int]:
    """What is missed of the first sub-band after the first tile, its features, and the table of where nothing is
    known."""
    width = len(codes_wKB)
    if not predicted:
        flat_wn = codes_wKB.reshape(width, -1)
        return flat_wn, np.ones((FIRST_FEATURES, flat_wn.shape[1])), _best_table(flat_wn)
    missed_wKB = _all_missed(codes_wKB, grid).reshape(codes_wKB.shape)
    first = FirstBand(width, grid, codes_wKB.shape[2])
    every = np.arange(codes_wKB.shape[1])
    first.fill(every, codes_wKB, np.zeros((), np.int32))
    first.wrong_KB[every] = np.abs(missed_wKB).sum(0)
    _, features = first.predictions(every[1:])
    return missed_wKB[:, 1:].reshape(width, -1), features.reshape(FIRST_FEATURES, -1), _best_table(codes_wKB[:, 0])


def _all_missed(codes_wKB: NDArray[np.int32], grid: tuple[int, int]) -> NDArray[np.int32]:
    first = FirstBand(len(codes_wKB), grid, codes_wKB.shape[2])
    every = np.arange(codes_wKB.shape[1])
    first.fill(every, codes_wKB, np.zeros((), np.int32))
    missed_wKB = codes_wKB - first.predictions(every)[0]
    return missed_wKB.reshape(len(codes_wKB), -1)


def _weights(features_Fn: NDArray[np.float64], means_n: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Weights of 0 and more with which features give the magnitudes best, by relative error: least squares, twice."""
    weights_F = np.zeros(len(features_Fn))
    weights_F[-1] = means_n.mean()
    for _ in range(2):
        expected_n = weights_F @ features_Fn + 0.02
        scaled_Fn = features_Fn / expected_n
        gram_FF, target_F = scaled_Fn @ scaled_Fn.T, scaled_Fn @ (means_n / expected_n)
        for _ in range(_ROUNDS):
            for one in range(len(weights_F)):
                if gram_FF[one, one] > 0:
                    off = target_F[one] - gram_FF[one] @ weights_F
                    weights_F[one] = max(0.0, weights_F[one] + off / gram_FF[one, one])
    return np.asarray(np.rint(weights_F * 2**ONE).clip(0, _MOST_WEIGHT), np.uint32)


def _tables(codes_wn: NDArray[np.int32], classes_n: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The best table of each class; a class that the sample lacks has that of the nearest below, or else above."""
    chosen = {int(number): _best_table(codes_wn[:, classes_n == number]) for number in np.unique(classes_n)}
    present = sorted(chosen)
    nearest = [max([one for one in present if one <= number], default=present[0]) for number in range(CLASSES)]
    return np.array([chosen[one] for one in nearest], np.uint8)


def _best_table(codes: NDArray[np.int32]) -> int:
    magnitudes = np.abs(codes)
    others = float((magnitudes > 0).sum())
    return int(np.argmin(table_bits(codes.size - others + 0.5, others + 0.1, float(magnitudes.sum()) - others)))
