"""Augmented layers as files: one safetensors tensor, with the shape of what it was built for as metadata."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mple.morph import AugmentedLayer, ImageShape, MorphScheme, expected_weight_shape
from mple.whole_files import put_in_place

_TENSOR = "augmented.weight"


class LayerFileError(ValueError):
    """A layer file is damaged or was made for another plan."""


def write_layer(layer: AugmentedLayer, path: Path) -> None:
    """Write a layer, first under a temporary name beside `path`, then renamed: never half a file.

    Raises:
        OSError: The disk is full, or the folder can't be written to; what was at `path` before is untouched.
    """
    metadata = {"augmented_layer": _about(layer.filters, layer.kernel)}
    temporary = path.with_name(path.name + ".part")
    try:
        save_file({_TENSOR: layer.weight.contiguous()}, temporary, metadata=metadata)
        put_in_place(temporary, path)
    except SafetensorError as fault:
        raise OSError(f"{path} can't be written: {fault}") from fault
    finally:
        temporary.unlink(missing_ok=True)


def read_layer(path: Path, *, scheme: MorphScheme, image: ImageShape, filters: int, kernel: int) -> AugmentedLayer:
    """Read a layer that must fit scheme, image and first convolution.

    Raises:
        LayerFileError: No safetensors file, no such tensor, another shape, dtype or kernel.
    """
    expected = expected_weight_shape(scheme, image, filters, kernel)
    try:
        with safe_open(path, framework="pt") as file:
            if list(file.keys()) != [_TENSOR]:
                raise LayerFileError(f"{path.name} holds {list(file.keys())} instead of {_TENSOR!r}")
            found = tuple(file.get_slice(_TENSOR).get_shape())
            if found != tuple(expected):
                raise LayerFileError(f"layer in {path.name} has shape {found}, the plan needs {tuple(expected)}")
            weight = file.get_tensor(_TENSOR)
            about = (file.metadata() or {}).get("augmented_layer")
    except (SafetensorError, KeyError) as fault:  # KeyError: a type of numbers that torch does not have
        raise LayerFileError(f"{path.name} is no readable layer file: {fault}") from None
    if weight.dtype != torch.float32:
        raise LayerFileError(f"layer in {path.name} has dtype {weight.dtype}; needs float32")
    if about not in (None, _about(filters, kernel)):  # the shape of a dense layer does not tell the kernel
        raise LayerFileError(f"layer in {path.name} is for {about}, the plan needs filters {filters}, kernel {kernel}")
    return AugmentedLayer(scheme=scheme, image_shape=image, kernel=kernel, filters=filters, weight=weight)


def _about(filters: int, kernel: int) -> str:
    """What a layer was built for, as its file's metadata."""
    return json.dumps({"filters": filters, "kernel": kernel})


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file, 32 bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
