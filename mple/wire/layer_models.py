"""The entropy models that coded layers are read by: fixed tables of whole numbers, the same at both ends.

A code is as good as a two-sided geometric value between a Gaussian and a Laplacian one. Each table is for one mean
square, an octave apart; its digest is compared with the released one, for `math.exp` may differ between machines.
"""

import math
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from mple.per_node import Common
from mple.wire.gaussian_models import require_released

SCALES = 17
"""Mean squares 2^-8 to 2^8."""
INSIDE = 191
"""Codes up to this have symbols of their own."""
ESCAPE = 2 * INSIDE + 1
"""The symbol of all others."""
_UNIT = 2**22
_DIGEST = "b82a2c5da0f9d9fee12c9f1fa584d6dd1308cda41ab60ed13fb9b3489ef7a361"


@dataclass(frozen=True, slots=True)
class LayerModels:
    """Models for constriction's coders."""

    scales: tuple[Any, ...]
    """Of codes plus INSIDE, and ESCAPE."""
    escape: Any
    """Half of a code that is written out, 13 bits."""
    bits: dict[int, Any]
    """So many bits as they are, up to 8."""


_models: Common[None, LayerModels] = Common()


def layer_models() -> LayerModels:
    """The models of this version. Raises ModelsDifferError: this machine makes other tables."""
    return _models.get(None, _made)


def _made() -> LayerModels:
    tables = [_masses(2.0 ** (scale - 8)) for scale in range(SCALES)]
    require_released(tables, _DIGEST, 'set wire.layer = "int8"')
    categorical, uniform = constriction.stream.model.Categorical, constriction.stream.model.Uniform
    return LayerModels(
        tuple(categorical(table / table.sum(), perfect=False) for table in tables),
        uniform(2**13),
        {bits: uniform(2**bits) for bits in range(1, 9)},
    )


def _masses(mean_square: float) -> NDArray[np.int64]:
    """Whole masses of rounded values of a Laplacian and a Gaussian of this mean square, half of each."""
    deviation = math.sqrt(mean_square)
    decay = math.sqrt(2) / deviation

    def below(edge: float) -> float:
        laplacian = 1 - 0.5 * math.exp(-decay * edge) if edge >= 0 else 0.5 * math.exp(decay * edge)
        return 0.5 * laplacian + 0.25 * (1 + math.erf(edge / deviation / math.sqrt(2)))

    inside = [below(code + 0.5) - below(code - 0.5) for code in range(-INSIDE, INSIDE + 1)]
    return np.array([max(1, round(mass * _UNIT)) for mass in [*inside, 2.0**-20]])
