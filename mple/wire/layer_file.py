"""Augmented layers as safetensors files, with the shape of what they were built for as metadata.

A layer for coefficients has so many rows as its key's basis has columns, which the file says, and the numbers that the
coefficients' codes are read by.
"""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mple.disk.private import private_file
from mple.disk.whole_files import put_in_place
from mple.morph import Cores, ImageShape, Layout, MorphGeometry, MorphScheme, expected_weight_shape
from mple.morph.augmented import AugmentedLayer
from mple.morph.smooth import smooth_features
from mple.wire.basis_file import most_coding_bytes
from mple.wire.coded_layer import CodedLayer, CodedLayerError, coded, weights_of
from mple.wire.coding import Coding, CodingError
from mple.wire.layer_dtype import WEIGHT, LayerDtypeError, require_header, tensors_of, weight_of

_CODING = "augmented.coding"
_CODED = _ROWS, _CHANNELS, _LEVELS, _WORDS = (
    "augmented.rows",
    "augmented.channels",
    "augmented.levels",
    "augmented.words",
)
_MOST_MORE_WORDS = 1024
_Header = dict[str, tuple[str, tuple[int, ...]]]


class LayerFileError(ValueError):
    """A layer file is damaged or was made for another plan."""


def write_layer(layer: AugmentedLayer, path: Path, numbers: str, step: float = 0.0) -> None:
    """Write a layer in the plan's `layer_dtype`, under a temporary name first, then renamed: never half a file. `step`
    is the codec's, for `coded`, which is for layers for coefficients.

    Raises ValueError: a weight is not finite, or beyond the numbers' range; OSError: the disk is full, or the folder
    can't be written to; what was at `path` before is untouched.
    """
    metadata = {"augmented_layer": _about(layer.filters, layer.kernel, layer.coefficients)}
    temporary = path.with_name(path.name + ".part")
    tensors = _coded_tensors(layer, step) if numbers == "coded" else tensors_of(layer.weight, numbers)
    if layer.coding is not None:
        tensors[_CODING] = np.frombuffer(layer.coding, np.uint8)
    try:
        save_file(tensors, private_file(temporary), metadata=metadata)
        put_in_place(temporary, path)
    except SafetensorError as fault:
        raise OSError(f"{path} can't be written: {fault}") from fault
    finally:
        temporary.unlink(missing_ok=True)


def read_layer(
    path: Path,
    *,
    scheme: MorphScheme,
    image: ImageShape,
    filters: int,
    kernel: int,
    numbers: str,
    coefficients: bool = False,
) -> AugmentedLayer:
    """Read a layer that must fit scheme, image, first convolution and type of numbers; its weight is float32.

    With `coefficients` it must be one for coefficients, with a coding of as many.

    Raises LayerFileError: no safetensors file, no such tensor, another shape, dtype or kernel, or no coding.
    """
    try:
        with safe_open(path, framework="np") as file:
            about = (file.metadata() or {}).get("augmented_layer")
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
            rows = _require_coding(found, scheme, image) if coefficients else None
            expected = expected_weight_shape(scheme, image, filters, kernel, rows)
            if numbers == "coded":
                shape = _planes(scheme, image, filters, kernel, rows or 0)
                _require_coded(found, shape)
                whole = CodedLayer(*(file.get_tensor(name) for name in _CODED))
                smooth_SYX = smooth_features(scheme, image, kernel).reshape(-1, *shape[3:])
                weight = weights_of(whole, shape, smooth_SYX).reshape(expected)
            else:
                require_header(found, expected, numbers)
                weight = weight_of({name: file.get_tensor(name) for name in found}, numbers)
            coding = None if rows is None else _checked(file.get_tensor(_CODING).tobytes(), scheme, image, rows)
    except SafetensorError as fault:
        raise LayerFileError(f"{path.name} is no readable layer file: {fault}") from None
    except LayerDtypeError as fault:
        raise LayerFileError(f"layer in {path.name} {fault}") from None
    except CodedLayerError as fault:
        raise LayerFileError(f"layer in {path.name} can't be decoded: {fault}") from None
    if about not in (None, _about(filters, kernel, rows)):  # the shape of a dense layer does not tell the kernel
        raise LayerFileError(f"layer in {path.name} is for {about}, the plan needs filters {filters}, kernel {kernel}")
    return AugmentedLayer(scheme, image, kernel, filters, weight, rows, coding)


def _require_coding(found: _Header, scheme: MorphScheme, image: ImageShape) -> int:
    """How many coefficients of a block a file's layer is for, taking its coding out of what is left to check."""
    geometry = MorphGeometry.of(scheme, image)
    dtype, shape = found.pop(_CODING, ("", ()))
    if dtype != "U8" or len(shape) != 1 or shape[0] > most_coding_bytes(geometry.cores(scheme), geometry.core_side):
        raise LayerDtypeError(f"has {dtype or 'no'} coding of shape {shape}; the plan's codec needs one")
    if set(found) == set(_CODED):
        rows = found[_ROWS][1][1] if len(found[_ROWS][1]) == 2 else 0
        if not 1 <= rows <= geometry.core_side:
            raise LayerDtypeError(f"has {rows} rows; the plan allows 1 to {geometry.core_side} coefficients a block")
        return rows
    tiles_of_their_own = scheme.layout is Layout.TILED and scheme.cores is Cores.DISTINCT
    weight = found.get(WEIGHT, ("", ()))[1]
    rows = weight[1 if tiles_of_their_own else 0] if len(weight) > 1 else 0
    if scheme.layout is Layout.UNROLLED:
        rows = 0 if rows % geometry.blocks else rows // geometry.blocks
    if not 1 <= rows <= geometry.core_side:
        raise LayerDtypeError(f"has shape {weight}; the plan allows 1 to {geometry.core_side} coefficients a block")
    return rows


def _coded_tensors(layer: AugmentedLayer, step: float) -> dict[str, NDArray[np.generic]]:
    assert layer.coefficients is not None, "only layers for coefficients are coded"
    assert layer.coding is not None, "their coding tells how far they spread"
    geometry = MorphGeometry.of(layer.scheme, layer.image_shape)
    coding = Coding.from_bytes(layer.coding, cores=geometry.cores(layer.scheme), core_side=geometry.core_side)
    shape = _planes(layer.scheme, layer.image_shape, layer.filters, layer.kernel, layer.coefficients)
    smooth_SYX = smooth_features(layer.scheme, layer.image_shape, layer.kernel).reshape(-1, *shape[3:])
    whole = coded(layer.weight.reshape(shape), coding.deviations_Gd, step, smooth_SYX)
    return dict(zip(_CODED, (whole.rows_Gd, whole.channels_F, whole.levels_Gd, whole.words), strict=True))


def _planes(
    scheme: MorphScheme, image: ImageShape, filters: int, kernel: int, rows: int
) -> tuple[int, int, int, int, int]:
    """A weight's shape (G, d, F, Y, X), G cores with rows of their own."""
    geometry = MorphGeometry.of(scheme, image)
    if scheme.layout is Layout.UNROLLED:
        return geometry.blocks, rows, filters, image.height, image.width
    reach = scheme.tile + kernel - 1
    return geometry.cores(scheme), rows, filters, reach, reach


def _require_coded(found: _Header, shape: tuple[int, ...]) -> None:
    cores, rows, filters = shape[:3]
    if set(found) != set(_CODED):
        raise LayerDtypeError(f"holds {sorted(found)} instead of {sorted(_CODED)}")
    due = {_ROWS: ("F32", (cores, rows)), _CHANNELS: ("F32", (filters,)), _LEVELS: ("I8", (cores, rows))}
    for name, expected in due.items():
        if found[name] != expected:
            raise LayerDtypeError(f"has {name} of {found[name]}, the plan needs {expected}")
    dtype, has = found[_WORDS]
    if dtype != "U32" or len(has) != 1 or has[0] > math.prod(shape) + _MOST_MORE_WORDS:
        raise LayerDtypeError(f"has {_WORDS} of {dtype} {has}; the plan allows {math.prod(shape)} words")


def _checked(coding: bytes, scheme: MorphScheme, image: ImageShape, columns: int) -> bytes:
    geometry = MorphGeometry.of(scheme, image)
    try:
        had = Coding.from_bytes(coding, cores=geometry.cores(scheme), core_side=geometry.core_side).columns
    except CodingError as fault:
        raise LayerDtypeError(f"has {fault}") from None
    if had != columns:
        raise LayerDtypeError(f"has {columns} coefficients a block, its coding {had}")
    return coding


def _about(filters: int, kernel: int, coefficients: int | None) -> str:
    """What a layer was built for, as its file's metadata."""
    about = {"filters": filters, "kernel": kernel}
    return json.dumps(about if coefficients is None else {**about, "coefficients": coefficients})
