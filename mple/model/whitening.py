"""Kernels that take natural patches apart: a stem that need not be drawn, and learns sooner than one that is.

A patch's directions are the products of an eigenvector of colour, one of rows and one of columns, from a small table of
public photographs' statistics (`benchmarks/patch_statistics.py` makes it). A kernel is such a direction over the root
of its variance, so that the features of natural pictures have about variance 1, and hardly correlate.

Nothing is decomposed here, and sums are rounded once: all machines get the same kernels, bit for bit.

Legend: F filters, C channels, p kernel side, D directions of a patch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.morph import gaussians

_TABLE = Path(__file__).with_name("patch_statistics.json")
TABLE_DIGEST = "b0d86cad729f4c85ac4b4ebd3cb6ade306be2d6c8d5378ea5810d75cf9730f67"
"""SHA-256 of the table that this version was released with."""
_PUBLISHED = hashlib.sha256(b"mple/v1/whitening-stem").digest()
_FLOOR = 0.005
"""Added to the variances in mixtures of directions, as a part of the largest: the finest detail is mostly noise."""


class TableDiffersError(RuntimeError):
    """The table beside this file is not the released one, so that nodes would make other stems of it."""


def whitening_kernels(filters: int, channels: int, kernel: int, *, mirrored: bool = False) -> NDArray[np.float32]:
    """Kernels (F, C, p, p) for a side of 1, 3, 5 or 7 pixels and any number of channels.

    First each direction, the largest variance first; then each with the other sign, since what follows cuts off what is
    negative; then random mixtures of all. With `mirrored` a kernel that is not its own left-right mirror image is
    followed by that, which of a direction is the one with the other sign.

    Guarantees: equal on all machines; with `mirrored` each kernel's mirror image is among them, bit for bit. Of three
    channels the statistics are those of red, green and blue; of any other number those of pictures whose channels are
    as alike as red, green and blue are on average.

    Raises TableDiffersError: the package's table was changed.
    """
    found = _directions(channels, kernel)
    kernels: list[NDArray[np.float64]] = []
    for sign in (1.0, -1.0):
        for direction in found:
            followed = mirrored and not direction.even
            if len(kernels) + followed < filters and (sign > 0 or not followed):
                kernels += [direction.whitened * sign, *([-direction.whitened] if followed else [])]
    for mixed_Cpp in _mixtures(found, filters - len(kernels)):
        paired = mirrored and kernel > 1
        if paired and len(kernels) + 1 == filters:
            mixed_Cpp = (mixed_Cpp + mixed_Cpp[..., ::-1]) / math.sqrt(2)
        kernels += [mixed_Cpp, *([mixed_Cpp[..., ::-1]] if paired else [])]
    return np.stack(kernels[:filters]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Direction:
    """A patch's, of norm 1."""

    values_Cpp: NDArray[np.float64]
    variance: float
    even: bool
    """Whether it is its own left-right mirror image; else it is the negative of it."""

    @property
    def whitened(self) -> NDArray[np.float64]:
        return self.values_Cpp / math.sqrt(self.variance)


def _directions(channels: int, kernel: int) -> list[_Direction]:
    """All D = C·p² of them, the largest variance first."""
    table = _table()
    sides_Dp = np.array(table.directions[str(kernel)])
    found = []
    for colour_C, variances_DD in zip(_colours(channels), _colour_variances(channels, kernel), strict=True):
        for row, column in np.ndindex(kernel, kernel):
            values_Cpp = colour_C[:, None, None] * (sides_Dp[row][:, None] * sides_Dp[column])
            even = np.array_equal(sides_Dp[column], sides_Dp[column][::-1])
            found.append(_Direction(values_Cpp, float(variances_DD[row, column]), even))
    return sorted(found, key=lambda direction: -direction.variance)


def _colours(channels: int) -> NDArray[np.float64]:
    """Directions of colour (C, C): those of red, green and blue; else the mean of all channels, then of each further
    one what sets it apart from those before it (Helmert's)."""
    if channels == 3:
        return np.array(_table().colours)
    made = np.full((channels, channels), 1 / math.sqrt(channels))
    for last in range(1, channels):
        norm = math.sqrt(last * (last + 1))
        made[last] = [1 / norm] * last + [-last / norm] + [0.0] * (channels - last - 1)
    return made


def _colour_variances(channels: int, kernel: int) -> list[NDArray[np.float64]]:
    """For each direction of colour the variances (D, D) by row and column."""
    first, second, third = map(np.array, _table().variances[str(kernel)])
    return [first, second, third] if channels == 3 else [first, *[(second + third) / 2] * (channels - 1)]


def _mixtures(found: Sequence[_Direction], count: int) -> list[NDArray[np.float64]]:
    """So many random mixtures of all directions (C, p, p), of norm 1 where each direction has variance 1."""
    drawn = gaussians(_PUBLISHED, b"mixtures", count * len(found))
    floor = _FLOOR * found[0].variance
    mixed = []
    for shares_D in drawn.reshape(-1, len(found)):
        norm = math.sqrt(math.fsum(share * share for share in shares_D.tolist()))
        total = np.zeros_like(found[0].values_Cpp)
        for share, direction in zip(shares_D.tolist(), found, strict=True):
            total = total + direction.values_Cpp * (share / norm / math.sqrt(direction.variance + floor))
        mixed.append(total)
    return mixed


@dataclass(frozen=True, slots=True)
class _Table:
    colours: list[list[float]]
    """Rows: directions of red, green and blue."""
    directions: dict[str, list[list[float]]]
    """By side p, rows: directions of p pixels."""
    variances: dict[str, list[list[list[float]]]]
    """By side, of each product of colour, row and column."""


@cache
def _table() -> _Table:
    content = _TABLE.read_bytes()
    if hashlib.sha256(content).hexdigest() != TABLE_DIGEST:
        raise TableDiffersError(
            f'{_TABLE} is not the table that mple was released with; install mple anew, or set model.stem = "seed"'
        )
    table = json.loads(content)
    return _Table(table["colours"], table["directions"], table["variances"])
