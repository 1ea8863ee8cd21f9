"""Entropy models of coefficients' codes: Laplacian ones, a quarter of an octave apart, in whole numbers.

With θ = exp(-√2 / s) for a deviation of s steps, a code is 0 with 1 - θ^u, and ±n with θ^(u + n - 1)·(1 - θ) / 2; u is
where coefficients begin to be rounded to 1 in the middle of what codecs do. How they are written depends on s, for what
is rare must cost little time:

- up to one step: signs (-1, 0, 1) of four codes at once are one symbol of 81; what a code that is not 0 has beyond 1
  follows by itself;
- beyond: the code is a symbol; of wide tables only its upper bits are, and its lower ones follow as they are.

Tables hold whole numbers made with `math.exp`, whose last bit may differ between machines: their digest is compared
with the released one, as in `mple.wire.gaussian_models`.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from mple.per_node import Common
from mple.wire.gaussian_models import require_released

TABLES = 60
"""Deviations of 2^-5 to 2^9.75 steps."""
FOURS = 17
"""The first so many tables write four codes at once."""
MOST_BEYOND = 15
"""Of what follows a sign; the next symbol stands for more, which is written out."""
WRITTEN_OUT = 2**17
"""Numbers that can be written out; half of it stands for 0."""
_UNIT = 2**22
_FIRST = 0.62
"""u."""
_DIGEST = "0a30b66bc506a0cc5e2fe70b004a8e5a28293a8ffabdb642d9bef9776c53fb66"


@dataclass(frozen=True, slots=True)
class DirectModel:
    """A table that has a symbol for each code from -most to most, shifted by `most`, and one for all others."""

    model: Any
    most: int
    shift: int
    """Lower bits that are written as they are."""


@dataclass(frozen=True, slots=True)
class CoefficientModels:
    """Models for constriction's coders."""

    signs: tuple[Any, ...]
    """Of 81 symbols, for the first `FOURS` tables: 27·a + 9·b + 3·c + d for the signs plus 1."""
    beyond: tuple[Any, ...]
    """Of MOST_BEYOND + 2 symbols, for the same tables."""
    direct: tuple[DirectModel, ...]
    """For the tables from `FOURS` on."""
    written_out: Any


_models: Common[None, CoefficientModels] = Common()


def coefficient_models() -> CoefficientModels:
    """The models of this version. Raises ModelsDifferError: this machine makes other tables."""
    return _models.get(None, _made)


def table_bits(zeros: float, others: float, beyond: float) -> NDArray[np.float64]:
    """Bits under each table of so many zeros, and so many other codes that together are so much beyond 1."""
    theta_T = np.array([_theta(table) for table in range(TABLES)])
    first_T = theta_T**_FIRST
    other_T = -np.log2(first_T * (1 - theta_T) / 2)
    return np.asarray(-np.log2(1 - first_T) * zeros + other_T * others - np.log2(theta_T) * beyond)


def _made() -> CoefficientModels:
    signs = [_sign_table(table) for table in range(FOURS)]
    beyond = [_beyond_table(table) for table in range(FOURS)]
    direct = [_direct_table(table) for table in range(FOURS, TABLES)]
    every = [*signs, *beyond, *(masses for masses, _, _ in direct)]
    require_released(every, _DIGEST, "set wire.codec to f32 or f16, which need none")
    return CoefficientModels(
        tuple(map(_model, signs)),
        tuple(map(_model, beyond)),
        tuple(DirectModel(_model(masses), most, shift) for masses, most, shift in direct),
        constriction.stream.model.Uniform(WRITTEN_OUT),
    )


def _model(masses: NDArray[np.int64]) -> Any:
    return constriction.stream.model.Categorical(masses / masses.sum(), perfect=False)


def _whole(masses: list[float]) -> NDArray[np.int64]:
    return np.array([max(1, round(mass * _UNIT)) for mass in masses])


def _theta(table: int) -> float:
    return math.exp(-math.sqrt(2) * 2.0 ** (5 - table / 4))


def _sign_table(table: int) -> NDArray[np.int64]:
    first = _theta(table) ** _FIRST
    return _whole([math.prod(four) for four in itertools.product((first / 2, 1 - first, first / 2), repeat=4)])


def _beyond_table(table: int) -> NDArray[np.int64]:
    theta = _theta(table)
    return _whole([*((1 - theta) * theta**more for more in range(MOST_BEYOND + 1)), theta ** (MOST_BEYOND + 1)])


def _direct_table(table: int) -> tuple[NDArray[np.int64], int, int]:
    theta, shift = _theta(table), max(0, table // 4 - 7)
    most = math.ceil(2.0 ** (table / 4 - 2 - shift))

    def at_least(code: int) -> float:
        return float(theta ** (_FIRST + code - 1) / 2 if code > 0 else 1 - theta ** (_FIRST - code) / 2)

    edges = [at_least(upper << shift) for upper in range(-most, most + 2)]
    inside = [a - b for a, b in itertools.pairwise(edges)]
    return _whole([*inside, 1 - edges[0] + edges[-1]]), most, shift
