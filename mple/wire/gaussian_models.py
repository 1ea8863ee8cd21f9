"""The entropy models that codes are packed with: fixed tables, the same at both ends, so that only codes travel.

Under an orthogonal core the values of a block are close to Gaussian, whatever the picture, with the block's own root
mean square. A block's codes are therefore coded under one of `CLASSES` Gaussians, a factor 2^(1/4) apart: the nearest
is at most 2^(1/8) off, which costs at most 0.012 bit a value. Which one it is travels as a step from the block before.

A table holds whole numbers made with `math.erf`, whose last bit may differ between machines. The tables' digest is
compared with the one that this version was released with: a machine that would make others refuses at once, instead
of reading every picture wrongly.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from mple.per_node import Common

LARGEST_CODE = 127
CLASSES = 41
"""Standard deviations 2^-3 to 2^7 in steps of a code."""
_UNIT = 2**22
"""The masses of codes are whole numbers that add up to about this, and so large is the mass of a step of 0. None is
below 1, so that everything can be written."""
_STEP_DECAY = 0.65
_EXPONENT_DECAY = 0.02
LARGEST_EXPONENT = 120
_DIGEST = "50159c2bc5772f34435a9a210d103a64b8b5d0e1904684ae8694217a20e7a425"


class ModelsDifferError(RuntimeError):
    """This machine's arithmetic makes other entropy models than the released ones."""


@dataclass(frozen=True, slots=True)
class EntropyModels:
    """Models for constriction's coders; all count from 0, so codes are shifted by `LARGEST_CODE`."""

    codes: tuple[Any, ...]
    """One for each class, of 2·LARGEST_CODE + 1 symbols."""
    class_steps: Any
    """Of 2·CLASSES - 1 symbols: class minus the class before, plus CLASSES - 1."""
    exponent_steps: Any
    """Of 2·LARGEST_EXPONENT + 1 symbols, alike."""


_models: Common[None, EntropyModels] = Common()


def entropy_models() -> EntropyModels:
    """The models of this version. Raises ModelsDifferError: this machine makes other tables."""
    return _models.get(None, _made)


def _made() -> EntropyModels:
    tables = [*_code_tables(), _two_sided(CLASSES - 1, _STEP_DECAY), _two_sided(LARGEST_EXPONENT, _EXPONENT_DECAY)]
    require_released(tables, _DIGEST, "set wire.codec to f32 or f16, which need none")
    models = [constriction.stream.model.Categorical(table / table.sum(), perfect=False) for table in tables]
    return EntropyModels(tuple(models[:CLASSES]), models[CLASSES], models[CLASSES + 1])


def require_released(tables: Iterable[NDArray[np.int64]], released: str, cure: str) -> None:
    """Raise ModelsDifferError when tables are not those of this version, by their SHA-256; `cure` is the way out."""
    digest = hashlib.sha256(b"".join(table.astype("<u4").tobytes() for table in tables)).hexdigest()
    if digest != released:
        raise ModelsDifferError(
            f"this machine makes other entropy models ({digest[:16]}) than mple was released with ({released[:16]}); "
            f"{cure}"
        )


def classes_of(codes_RQ: NDArray[np.int8]) -> NDArray[np.int64]:
    """For each row of codes the class whose standard deviation is nearest in ratio."""
    sums_R = np.einsum("rq,rq->r", codes_RQ, codes_RQ, dtype=np.int64)
    classes_R: NDArray[np.int64] = np.searchsorted(_CLASS_BORDERS, sums_R / codes_RQ.shape[1])
    return classes_R


def _deviation(number: int) -> float:
    return float(2.0 ** (number / 4 - 3))


def _code_masses(deviation: float) -> list[float]:
    """Probability of each code, -LARGEST_CODE first, of a Gaussian that is rounded to whole numbers."""
    edges = [code - 0.5 for code in range(-LARGEST_CODE + 1, LARGEST_CODE + 1)]
    below = [0.0, *(0.5 * (1 + math.erf(edge / (deviation * math.sqrt(2)))) for edge in edges), 1.0]
    return [b - a for a, b in itertools.pairwise(below)]


def entropies(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of the whole number nearest to a Gaussian value, by logarithms to base 2 of its deviation."""
    return np.interp(logs, _LOGS, _entropies())


_LOGS = np.arange(-8.0, 8.0 + 1 / 16, 1 / 16)


@cache
def _entropies() -> NDArray[np.float64]:
    deviations = 2.0**_LOGS
    return np.array([-sum(m * math.log2(m) for m in _code_masses(float(d)) if m > 0) for d in deviations])


def _code_tables() -> list[NDArray[np.int64]]:
    classes = (_code_masses(_deviation(number)) for number in range(CLASSES))
    return [np.array([max(1, round(mass * _UNIT)) for mass in masses]) for masses in classes]


def _mean_square(deviation: float) -> float:
    """Of a Gaussian that is rounded to whole numbers."""
    tails = [math.erfc((code - 0.5) / (deviation * math.sqrt(2))) for code in range(1, LARGEST_CODE + 1)]
    return math.fsum((2 * code - 1) * tail for code, tail in enumerate(tails, start=1))


_CLASS_BORDERS = np.array([round(_mean_square(_deviation(c) * 2**0.125), 6) for c in range(CLASSES - 1)])
"""Mean squares of codes between neighbouring classes; so few decimals that they are the same on every machine."""


def _two_sided(most: int, decay: float) -> NDArray[np.int64]:
    return np.array([max(1, round(decay ** abs(step) * _UNIT)) for step in range(-most, most + 1)])
