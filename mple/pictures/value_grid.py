"""A grid for values in any unit (Hounsfield units, counts, SUV), the same for all hospitals, so that counts add up.

Cells are bounded by powers of two to the eighth part: each is 9 % wider than the one before it, on either side of
zero. Below 2^-10 values count as 0. Pure.
"""

import numpy as np
from numpy.typing import NDArray

_STEPS = 8
"""To a factor of two."""
_LOWEST, _HIGHEST = -10 * _STEPS, 40 * _STEPS
"""Values from 2^-10 to 2^40 have cells of their own; those beyond are in the outermost."""
_OF_ONE_SIGN = _HIGHEST - _LOWEST
CELLS = 2 * _OF_ONE_SIGN + 1
_ZERO = _OF_ONE_SIGN


def cells_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of each value's cell, from 0, ascending with the values."""
    with np.errstate(divide="ignore"):
        steps = np.floor(_STEPS * np.log2(np.abs(values)))
    above = np.clip(steps, _LOWEST - 1, _HIGHEST - 1).astype(np.int64) - _LOWEST + 1
    return np.asarray(np.where(values < 0, _ZERO - above, _ZERO + above))


def bounds_of(cell: int) -> tuple[float, float]:
    """The lowest and the highest value of a cell; those of 0 are one."""
    if cell == _ZERO:
        return 0.0, 0.0
    far = abs(cell - _ZERO) + _LOWEST
    near_end, far_end = 2.0 ** ((far - 1) / _STEPS), 2.0 ** (far / _STEPS)
    return (near_end, far_end) if cell > _ZERO else (-far_end, -near_end)
