"""Which cells of a table are withheld, so that nobody reads off it what few contributed. Pure.

Legend: U contributors (patients, or pictures where nobody says whose they are), K cells.
"""

import numpy as np
from numpy.typing import NDArray


def withheld_cells(contributes_UK: NDArray[np.bool_], least: int, known_sums: int) -> NDArray[np.bool_]:
    """Which cells (K) are withheld: those of fewer than `least` contributors, and as many more that no difference tells
    them.

    `known_sums` figures that are given besides are exact sums over all cells, as their total is. Each is an equation
    for what is withheld, so at least one cell more is withheld than there are equations, and all that is withheld
    together comes from `least` contributors. The further cells are those of the fewest. Empty cells are never withheld.
    """
    support_K = contributes_UK.sum(axis=0)
    withheld_K = np.asarray((support_K > 0) & (support_K < least))
    while withheld_K.any() and (
        withheld_K.sum() <= known_sums or contributes_UK[:, withheld_K].any(axis=1).sum() < least
    ):
        shown = np.flatnonzero(~withheld_K & (support_K > 0))
        if not len(shown):
            break
        withheld_K[shown[np.argmin(support_K[shown])]] = True
    return withheld_K


def by_contributor(contributes_NK: NDArray[np.bool_], patients: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """What pictures contribute to, by patient where the set says whose they are."""
    if patients is None:
        return contributes_NK
    who, place_N = np.unique(patients, return_inverse=True)
    contributes_UK = np.zeros((len(who), contributes_NK.shape[1]), np.bool_)
    np.logical_or.at(contributes_UK, place_N, contributes_NK)
    return contributes_UK
