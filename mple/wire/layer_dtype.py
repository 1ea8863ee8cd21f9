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

import torch
from torch import Tensor

_WEIGHT, _SCALE = "augmented.weight", "augmented.scale"
_DTYPES = {"int8": torch.int8, "f16": torch.float16, "f32": torch.float32}
_LEVELS = 127
_ROWS_AT_ONCE = 256


class LayerDtypeError(ValueError):
    """Tensors that are no weight in these numbers."""


def tensors_of(weight: Tensor, numbers: str) -> dict[str, Tensor]:
    """The tensors that a layer's file holds for a float32 weight (Q, ...) or, for distinct cores, (K, Q, O).

    `numbers`, here and below, is one of `mple.wire.names.LAYER_DTYPES`.

    Raises ValueError: a weight is not finite, or beyond the range of f16.
    """
    weight = weight.detach().contiguous()
    if numbers != "int8":
        written = weight.to(_DTYPES[numbers])
        if not torch.isfinite(written).all():
            raise ValueError(f'a weight of the layer is NaN, or beyond the range of {numbers}; set wire.layer to "f32"')
        return {_WEIGHT: written}
    axis = _input_axis(weight.ndim)
    low, high = torch.aminmax(weight, dim=axis, keepdim=True)
    peak = torch.maximum(high, -low)
    if not torch.isfinite(peak).all():
        raise ValueError("a weight of the layer is NaN or infinite")
    scale = torch.where(peak > 0, peak / _LEVELS, torch.ones_like(peak))
    codes = torch.empty(weight.shape, dtype=torch.int8)
    parts = (torch.split(whole, _ROWS_AT_ONCE, axis) for whole in (weight, codes))
    for rows, coded in zip(*parts, strict=True):  # no second float copy of a dense layer
        coded.copy_((rows / scale).round_().clamp_(-_LEVELS, _LEVELS))
    return {_WEIGHT: codes, _SCALE: scale.squeeze(axis)}


def require_shapes(found: Mapping[str, tuple[int, ...]], shape: tuple[int, ...], numbers: str) -> None:
    """Check what a file says that it holds, before any of it is read.

    Raises LayerDtypeError: names or shapes are others than those of a weight of this shape.
    """
    due = _due(shape, numbers)
    if set(found) != set(due):
        raise LayerDtypeError(f"holds {sorted(found)} instead of {sorted(due)}")
    for name, (due_shape, _) in due.items():
        if found[name] != due_shape:
            raise LayerDtypeError(f"has shape {found[name]}, the plan needs {due_shape}")


def weight_of(tensors: Mapping[str, Tensor], shape: tuple[int, ...], numbers: str) -> Tensor:
    """The float32 weight that a file's tensors mean. Raises LayerDtypeError: names, shapes or dtypes are others."""
    require_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, shape, numbers)
    for name, (_, dtype) in _due(shape, numbers).items():
        if tensors[name].dtype != dtype:
            raise LayerDtypeError(f"has dtype {tensors[name].dtype}; the plan needs {dtype}")
    weight = tensors[_WEIGHT].float()
    return weight if numbers != "int8" else weight.mul_(tensors[_SCALE].unsqueeze(_input_axis(len(shape))))


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


def _due(shape: tuple[int, ...], numbers: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    due = {_WEIGHT: (shape, _DTYPES[numbers])}
    return due | ({_SCALE: (_output_shape(shape), torch.float32)} if numbers == "int8" else {})
