"""What is known of codes before they are read: predictions and classes, in whole numbers at both ends alike.

The coefficients of a block are coded in sub-bands of neighbouring columns, all blocks of a message together, one
sub-band after the other. So when one comes, the ones before it are known of the block itself and of all tiles around
it. A weighted sum of their magnitudes says how wide this one will be: its class, half an octave each.

The first sub-band is predicted from tiles to the left and above where they share a core: the same mean for every
column, so that it works however columns were rotated among themselves, and says nothing of how.

Sums are of whole numbers below 2^53, held as float64: exact in whatever order a machine adds them.

Legend: S sub-bands, w columns of one, K blocks (R x C tiles), B samples, n = K·B rows, position-major.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CLASSES = 36
"""Expected magnitudes of 2^-8 to 2^10 steps, half an octave each."""
ONE = 16
"""Weights give an expected magnitude in units of 2^-16 steps."""
_OWN, _AROUND = 8, 4
FEATURES = _OWN + 1 + _AROUND + 3
"""Magnitude sums of the last eight sub-bands of a block, nearest first; of all before them; of the last four of the
tiles around; first and second differences of the first sub-band around; 1."""
FIRST_FEATURES = 4
"""For the first sub-band: differences above and to the left; above and to the right; what was predicted wrongly there;
1."""
_LOWEST_CLASS = (1023 + ONE - 8) << 1


@cache
def sub_bands(columns: int) -> tuple[tuple[int, int], ...]:
    """First and last-but-one column of each sub-band."""
    edges = [0]
    while edges[-1] < columns:
        low = edges[-1]
        width = 3 if low < 9 else 4 if low < 21 else 6 if low < 45 else max(12, low // 8)
        edges.append(min(columns, low + width))
    return tuple(itertools.pairwise(edges))


def classes_of(expected_n: NDArray[np.float64]) -> NDArray[np.int64]:
    """Classes by expected magnitudes: exponent and first bit of the fraction."""
    classes_n: NDArray[np.int64] = expected_n.view(np.int64) >> 51
    classes_n -= _LOWEST_CLASS
    np.maximum(classes_n, 0, out=classes_n)
    np.minimum(classes_n, CLASSES - 1, out=classes_n)
    return classes_n


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """For each tile of a grid the places of others; K is a place that is always 0."""

    west_K: NDArray[np.intp]
    north_K: NDArray[np.intp]
    north_west_K: NDArray[np.intp]
    north_east_K: NDArray[np.intp]
    waves: tuple[NDArray[np.intp], ...]
    """Tiles that can be read at once, in order: all those they are predicted from come before."""


@cache
def neighbours(rows: int, columns: int) -> Neighbours:
    """Those of a grid; beyond its edges stands the nearest tile that is known."""
    none = rows * columns

    def place(row: int, column: int) -> int:
        return row * columns + column

    found = []
    for row in range(rows):
        for column in range(columns):
            north = place(row - 1, column) if row else place(row, column - 1) if column else none
            west = place(row, column - 1) if column else north
            north_west = place(row - 1, column - 1) if row and column else north
            north_east = place(row - 1, column + 1) if row and column + 1 < columns else north
            found.append((west, north, north_west, north_east))
    west_K, north_K, north_west_K, north_east_K = np.array(found, np.intp).T
    wave_K = (2 * np.arange(rows)[:, None] + np.arange(columns)).ravel()
    waves = tuple(np.flatnonzero(wave_K == wave) for wave in range(2 * rows + columns - 2) if (wave_K == wave).any())
    return Neighbours(west_K, north_K, north_west_K, north_east_K, waves)


class FirstBand:
    """The first sub-band of tiles that share a core, which fills up wave by wave."""

    def __init__(self, width: int, grid: tuple[int, int], samples: int) -> None:
        self.near = neighbours(*grid)
        tiles = grid[0] * grid[1]
        self.codes_wKB: NDArray[np.int32] = np.zeros((width, tiles + 1, samples), np.int32)
        """With the place that is always 0."""
        self.wrong_KB: NDArray[np.float64] = np.zeros((tiles + 1, samples))
        """Magnitude sums of what the predictions missed."""

    def predictions(self, tiles: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """What some tiles are expected to be, (w, tiles, B), and their features, (FIRST_FEATURES, tiles, B)."""
        near, codes_wKB = self.near, self.codes_wKB
        west, north = codes_wKB[:, near.west_K[tiles]], codes_wKB[:, near.north_K[tiles]]
        north_west, north_east = codes_wKB[:, near.north_west_K[tiles]], codes_wKB[:, near.north_east_K[tiles]]
        mean = (8 * west + 6 * north - 2 * north_west + 4 * north_east + 8) >> 4
        features = np.ones((FIRST_FEATURES, *mean.shape[1:]))
        features[0] = (np.abs(west - north_west) + np.abs(north - north_west)).sum(0)
        features[1] = np.abs(north - north_east).sum(0)
        features[2] = self.wrong_KB[near.west_K[tiles]] + self.wrong_KB[near.north_K[tiles]]
        return mean.astype(np.int32, copy=False), features

    def fill(self, tiles: NDArray[np.intp], missed_wKB: NDArray[np.int32], mean_wKB: NDArray[np.int32]) -> None:
        """Take down what some tiles are."""
        self.codes_wKB[:, tiles] = mean_wKB + missed_wKB
        self.wrong_KB[tiles] = np.abs(missed_wKB).sum(0)


class Magnitudes:
    """Magnitude sums of the sub-bands so far, of blocks and of the tiles around them."""

    def __init__(self, count: int, grid: tuple[int, int], samples: int) -> None:
        self._grid, self._samples = grid, samples
        rows = grid[0] * grid[1] * samples
        self._own_Sn = np.zeros((count, rows))
        self._around_Sn = np.zeros((count, rows))
        self._older_n = np.zeros(rows)
        self._first_2n = np.zeros((2, rows))
        self._known = 0

    def add(self, codes_wn: NDArray[np.int32]) -> None:
        """The next sub-band is known. What was predicted counts by what was missed."""
        own_n, known = self._own_Sn[self._known], self._known
        own_n[:] = np.abs(codes_wn).sum(0, dtype=np.int32)
        if self._grid != (1, 1):
            tiles = own_n.reshape(*self._grid, self._samples)
            around = self._around_Sn[known].reshape(tiles.shape)
            around[1:] = tiles[:-1]
            around[0] = tiles[0]  # beyond an edge stands the tile itself
            around[:-1] += tiles[1:]
            around[-1] += tiles[-1]
            around[:, 1:] += tiles[:, :-1]
            around[:, 0] += tiles[:, 0]
            around[:, :-1] += tiles[:, 1:]
            around[:, -1] += tiles[:, -1]
        if known >= _OWN:
            self._older_n += self._own_Sn[known - _OWN]
        self._known += 1

    def add_first(self, codes_wn: NDArray[np.int32]) -> None:
        """What the first sub-band is, whatever was predicted of it."""
        if self._grid == (1, 1):
            return
        tiles = codes_wn.reshape(-1, *self._grid, self._samples)
        around = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        north, south = around[:, :-2, 1:-1], around[:, 2:, 1:-1]
        west, east = around[:, 1:-1, :-2], around[:, 1:-1, 2:]
        first = np.abs(east - west).sum(0) + np.abs(south - north).sum(0)
        second = np.abs(east + west - 2 * tiles).sum(0) + np.abs(south + north - 2 * tiles).sum(0)
        self._first_2n[0], self._first_2n[1] = first.reshape(-1), second.reshape(-1)

    def features(self) -> NDArray[np.float64]:
        """Of the next sub-band, (FEATURES, n)."""
        known = self._known
        features = np.zeros((FEATURES, self._own_Sn.shape[1]))
        own, around = min(known, _OWN), min(known, _AROUND)
        features[:own] = self._own_Sn[known - own : known][::-1]
        features[_OWN] = self._older_n
        features[_OWN + 1 : _OWN + 1 + around] = self._around_Sn[known - around : known][::-1]
        features[-3:-1] = self._first_2n
        features[-1] = 1
        return features

    def expected(self, weights_F: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the next sub-band: weights times `features`, without making them."""
        known = self._known
        own, around = min(known, _OWN), min(known, _AROUND)
        expected_n = weights_F[:own][::-1].copy() @ self._own_Sn[known - own : known]
        expected_n += weights_F[-1]
        if known > _OWN:
            expected_n += weights_F[_OWN] * self._older_n
        if self._grid != (1, 1):
            low = _OWN + 1
            expected_n += weights_F[low : low + around][::-1].copy() @ self._around_Sn[known - around : known]
            expected_n += weights_F[-3:-1] @ self._first_2n
        return np.asarray(expected_n)
