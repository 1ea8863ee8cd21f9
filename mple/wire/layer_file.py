"""Augmented layers as files: one safetensors tensor, with the shape of what it was built for as metadata."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mple.morph import AugmentedLayer, ImageShape, MorphScheme, expected_weight_shape

_TENSOR = "augmented.weight"


class LayerFileError(ValueError):
    """A layer file is damaged or was made for another plan."""


def write_layer(layer: AugmentedLayer, path: Path) -> None:
    """Write a layer, first under a temporary name beside `path`, then renamed: never half a file."""
    about = {"filters": layer.filters, "kernel": layer.kernel}
    temporary = path.with_name(path.name + ".part")
    save_file({_TENSOR: layer.weight.contiguous()}, temporary, metadata={"augmented_layer": json.dumps(about)})
    os.replace(temporary, path)


def read_layer(path: Path, *, scheme: MorphScheme, image: ImageShape, filters: int, kernel: int) -> AugmentedLayer:
    """Read a layer that must fit scheme, image and first convolution.

    Raises:
        LayerFileError: No safetensors file, no such tensor, another shape or dtype.
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
    except SafetensorError as fault:
        raise LayerFileError(f"{path.name} is no readable layer file: {fault}") from None
    if not weight.is_floating_point():
        raise LayerFileError(f"layer in {path.name} has dtype {weight.dtype}, need a float type")
    return AugmentedLayer(scheme=scheme, image_shape=image, kernel=kernel, filters=filters, weight=weight)


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file, 32 bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
