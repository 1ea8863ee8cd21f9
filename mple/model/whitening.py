"""Kernels that see natural pictures white: a stem that learns sooner than one that is drawn without regard to them.

A patch's directions are the products of an eigenvector of colour, one of rows and one of columns, from a small table of
public photographs' statistics (`benchmarks/patch_statistics.py` makes it). Each direction is divided by the root of its
variance plus a floor, so that what natural pictures have much of does not drown the rest; a kernel is a mixture of all
of them by a row of a random rotation. Kernels that were directions themselves would learn as well, but those of the
finest detail answer to what codecs and sensors add: batch norm behind the stem takes any scale of a kernel away, and
with it any floor. In a mixture the floor holds.

Nothing is decomposed here, and sums are rounded in a fixed order: all machines get the same kernels, bit for bit.

Legend: F filters, C channels, p kernel side, D = C·p² directions of a patch.
"""

from __future__ import annotations

import hashlib
import json
import math
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
_FLOOR = 0.2
"""Added to each direction's variance, as a part of a channel's: kernels of 3 pixels have a norm of about 1.8 then, and
none can have more than 2.3."""


class TableDiffersError(RuntimeError):
    """The table beside this file is not the released one, so that nodes would make other stems of it."""


def whitening_kernels(filters: int, channels: int, kernel: int, *, mirrored: bool = False) -> NDArray[np.float32]:
    """Kernels (F, C, p, p) for a side of 1, 3, 5 or 7 pixels and any number of channels.

    As many as there are directions are orthogonal mixtures of them, the next are so among themselves, and so on. With
    `mirrored` every second kernel is the left-right mirror image of the one before it, and the last of an odd number is
    its own; kernels of one pixel are that anyway.

    Guarantees: equal on all machines; with `mirrored` each kernel's mirror image is among them, bit for bit. Of three
    channels the statistics are those of red, green and blue; of any other number those of pictures whose channels are
    as alike as red, green and blue are on average.

    Raises TableDiffersError: the package's table was changed.
    """
    directions_DCpp = _whitened(channels, kernel)
    paired = mirrored and kernel > 1
    made = []
    for mixture_D in _mixtures(-(-filters // 2) if paired else filters, len(directions_DCpp)):
        total_Cpp = np.zeros((channels, kernel, kernel))
        for share, direction_Cpp in zip(mixture_D, directions_DCpp, strict=True):
            total_Cpp += share * direction_Cpp
        made.append(total_Cpp)
    if paired:
        made = [image for one in made for image in (one, one[..., ::-1])][:filters]
        if filters % 2:
            made[-1] = (made[-1] + made[-1][..., ::-1]) / math.sqrt(2)
    return np.stack(made).astype(np.float32)


def _mixtures(count: int, directions: int) -> list[list[float]]:
    """Random unit vectors of so many shares, each block of as many as there are shares an orthogonal one."""
    drawn = gaussians(_PUBLISHED, b"mixtures", count * directions).reshape(count, directions)
    made: list[list[float]] = []
    for number, row in enumerate(drawn.tolist()):
        for other in made[number - number % directions :]:
            along = math.fsum(one * two for one, two in zip(row, other, strict=True))
            row = [one - along * two for one, two in zip(row, other, strict=True)]
        norm = math.sqrt(math.fsum(one * one for one in row))
        made.append([one / norm for one in row])
    return made


def _whitened(channels: int, kernel: int) -> list[NDArray[np.float64]]:
    """The directions of a patch (C, p, p), each over the root of its variance plus the floor."""
    sides_pp = np.array(_table().directions[str(kernel)])
    variances_Cpp = _variances(channels, kernel)
    found = []
    for colour, row, column in np.ndindex(channels, kernel, kernel):
        scale = 1 / math.sqrt(float(variances_Cpp[colour][row, column]) + _FLOOR)
        colour_C = _colours(channels)[colour]
        found.append(scale * colour_C[:, None, None] * (sides_pp[row][:, None] * sides_pp[column]))
    return found


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


def _variances(channels: int, kernel: int) -> list[NDArray[np.float64]]:
    """For each direction of colour the variances (p, p) by row and column."""
    first, second, third = map(np.array, _table().variances[str(kernel)])
    return [first, second, third] if channels == 3 else [first, *[(second + third) / 2] * (channels - 1)]


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
