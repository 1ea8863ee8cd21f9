"""Entropy models of coefficients: Laplacian ones in steps of an eighth of an octave, whole numbers as in
`mple.wire.gaussian_models`.

They are made without logarithms or exponentials: a table is the powers of one ratio, by multiplication, which every
machine rounds alike."""

from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from mple.per_node import Common

SCALES = 96
"""Deviations of 2^-4 to almost 2^8 steps."""
SYMBOLS = 255
_UNIT = 2**22


@dataclass(frozen=True, slots=True)
class ScaleModels:
    """Models for constriction's coders."""

    scales: tuple[Any, ...]
    """One for each scale, of SYMBOLS + 1 symbols: codes from -127 to 127, and one for all others."""
    escape: Any
    """Of 2^16 symbols that are equally likely."""


_models: Common[None, ScaleModels] = Common()


def scale_models() -> ScaleModels:
    """The models of this version."""
    return _models.get(None, _made)


def _made() -> ScaleModels:
    tables = [_table(scale) for scale in range(SCALES)]
    models = [constriction.stream.model.Categorical(table / table.sum(), perfect=False) for table in tables]
    return ScaleModels(tuple(models), constriction.stream.model.Uniform(2**16))


def _table(scale: int) -> NDArray[np.int64]:
    deviation = float(2.0 ** (scale / 8 - 4))
    decay = float(np.exp(-(2**0.5) / deviation))
    half = SYMBOLS // 2
    inner = 1 - decay**0.5
    side = [0.5 * decay**0.5 * (1 - decay) * decay ** (code - 1) for code in range(1, half + 1)]
    beyond = max(0.0, 1 - inner - 2 * sum(side))
    masses = [*reversed(side), inner, *side, beyond]
    return np.array([max(1, round(mass * _UNIT)) for mass in masses])
