"""How weights of augmented layers are written: as binary32, binary16, or 8-bit numbers with a scale for each output.

| `wire.layer` | bytes a weight | features of a layer with orthogonal cores are off by, of their root mean square |
| --- | --- | --- |
| `f32` | 4 | float32 rounding |
| `f16` | 2 | 2.1e-4 |
| `int8` | 1, and 4 for each output | 6.8e-3 with 192 inputs, 8.5e-3 with 3072: peaks rise with their number |

For comparison: bf16 arithmetic adds 2.9e-3, the codec q6 some 5e-2. Under an orthogonal core the weights of an output
are close to Gaussian, so that a scale for each output, max abs / 127, leaves no output badly off.

Legend: Q inputs, K blocks, O outputs.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mple.morph.arithmetic import Floats

WEIGHT, _SCALE = "augmented.weight", "augmented.scale"
"""Names of tensors."""
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "int8": np.dtype(np.int8),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
}
_NAMES = {"int8": "I8", "f16": "F16", "f32": "F32"}
"""As safetensors calls them."""
_LEVELS = 127
_ROWS_AT_ONCE = 256


class LayerDtypeError(ValueError):
    """Tensors that are no weight in these numbers."""


def tensors_of(weight: Floats, numbers: str) -> dict[str, NDArray[np.generic]]:
    """The tensors that a layer's file holds for a float32 weight (Q, ...) or, for distinct cores, (K, Q, O).

    `numbers`, here and below, is one of `mple.wire.names.LAYER_DTYPES`.

    Raises ValueError: a weight is not finite, or beyond the range of f16.
    """
    if numbers != "int8":
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray(weight, _DTYPES[numbers])
        if not np.isfinite(written).all():
            raise ValueError(f'a weight of the layer is NaN, or beyond the range of {numbers}; set wire.layer to "f32"')
        return {WEIGHT: written}
    axis = _input_axis(weight.ndim)
    peak = np.maximum(weight.max(axis, keepdims=True), -weight.min(axis, keepdims=True))
    if not np.isfinite(peak).all():
        raise ValueError("a weight of the layer is NaN or infinite")
    scale = (peak / _LEVELS).astype(np.float32)
    scale[scale == 0] = 1  # of an output without weights, or with none that a step could tell from 0
    codes = np.empty(weight.shape, np.int8)
    for low in range(0, weight.shape[axis], _ROWS_AT_ONCE):  # no second float copy of a dense layer
        some = (slice(None),) * axis + (slice(low, low + _ROWS_AT_ONCE),)
        codes[some] = np.clip(np.rint(weight[some] / scale), -_LEVELS, _LEVELS)
    return {WEIGHT: codes, _SCALE: scale.squeeze(axis)}


def require_header(found: Mapping[str, tuple[str, tuple[int, ...]]], shape: tuple[int, ...], numbers: str) -> None:
    """Check what a file says that it holds, by name the type of numbers and the shape, before any of it is read.

    Raises LayerDtypeError: it is something else than a weight of this shape in these numbers.
    """
    due = {WEIGHT: (_NAMES[numbers], shape)}
    if numbers == "int8":
        due[_SCALE] = (_NAMES["f32"], _output_shape(shape))
    if set(found) != set(due):
        raise LayerDtypeError(f"holds {sorted(found)} instead of {sorted(due)}")
    for name, (due_dtype, due_shape) in due.items():
        dtype, has = found[name]
        if has != due_shape:
            raise LayerDtypeError(f"has shape {has}, the plan needs {due_shape}")
        if dtype != due_dtype:
            raise LayerDtypeError(f"has dtype {dtype}; the plan needs {due_dtype}")


def weight_of(tensors: Mapping[str, NDArray[np.generic]], numbers: str) -> NDArray[np.float32]:
    """The float32 weight that a file's tensors mean, once `require_header` has passed them; may use their memory."""
    weight = tensors[WEIGHT].astype(np.float32, copy=False)
    if numbers == "int8":
        weight *= np.expand_dims(tensors[_SCALE], _input_axis(weight.ndim))
    return weight


def weight_bytes(shape: tuple[int, ...], numbers: str) -> int:
    """Bytes of a weight's tensors, without the file's header."""
    scales = math.prod(_output_shape(shape)) if numbers == "int8" else 0
    return math.prod(shape) * _DTYPES[numbers].itemsize + 4 * scales


def _input_axis(dimensions: int) -> int:
    """The shapes of `AugmentedLayer.weight`: only that of tiles with distinct cores has three dimensions."""
    return 1 if dimensions == 3 else 0


def _output_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = _input_axis(len(shape))
    return (*shape[:axis], *shape[axis + 1 :])
