"""The numbers that morphing computes with and, by name, the arithmetic of prepared layers."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
"""float32 or float64."""


class Arithmetic(StrEnum):
    """How a prepared layer computes; see `mple.model.first_layer.prepared` for what each promises."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """Factors of 8 bits in unrolled layers; as `bf16` in tiled ones, which have little to gain."""
