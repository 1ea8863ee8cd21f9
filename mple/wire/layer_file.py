"""Augmented layers as safetensors files, with the shape of what they were built for as metadata."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mple.disk.private import private_file
from mple.disk.whole_files import put_in_place
from mple.morph import ImageShape, MorphScheme, expected_weight_shape
from mple.morph.augmented import AugmentedLayer
from mple.wire.layer_dtype import LayerDtypeError, require_header, tensors_of, weight_of


class LayerFileError(ValueError):
    """A layer file is damaged or was made for another plan."""


def write_layer(layer: AugmentedLayer, path: Path, numbers: str) -> None:
    """Write a layer in the plan's `layer_dtype`, under a temporary name first, then renamed: never half a file.

    Raises ValueError: a weight is not finite, or beyond the numbers' range; OSError: the disk is full, or the folder
    can't be written to; what was at `path` before is untouched.
    """
    metadata = {"augmented_layer": _about(layer.filters, layer.kernel)}
    temporary = path.with_name(path.name + ".part")
    tensors = tensors_of(layer.weight, numbers)
    try:
        save_file(tensors, private_file(temporary), metadata=metadata)
        put_in_place(temporary, path)
    except SafetensorError as fault:
        raise OSError(f"{path} can't be written: {fault}") from fault
    finally:
        temporary.unlink(missing_ok=True)


def read_layer(
    path: Path, *, scheme: MorphScheme, image: ImageShape, filters: int, kernel: int, numbers: str
) -> AugmentedLayer:
    """Read a layer that must fit scheme, image, first convolution and type of numbers; its weight is float32.

    Raises LayerFileError: no safetensors file, no such tensor, another shape, dtype or kernel.
    """
    expected = expected_weight_shape(scheme, image, filters, kernel)
    try:
        with safe_open(path, framework="np") as file:
            about = (file.metadata() or {}).get("augmented_layer")
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
            require_header(found, expected, numbers)
            weight = weight_of({name: file.get_tensor(name) for name in slices}, numbers)
    except SafetensorError as fault:
        raise LayerFileError(f"{path.name} is no readable layer file: {fault}") from None
    except LayerDtypeError as fault:
        raise LayerFileError(f"layer in {path.name} {fault}") from None
    if about not in (None, _about(filters, kernel)):  # the shape of a dense layer does not tell the kernel
        raise LayerFileError(f"layer in {path.name} is for {about}, the plan needs filters {filters}, kernel {kernel}")
    return AugmentedLayer(scheme=scheme, image_shape=image, kernel=kernel, filters=filters, weight=weight)


def _about(filters: int, kernel: int) -> str:
    """What a layer was built for, as its file's metadata."""
    return json.dumps({"filters": filters, "kernel": kernel})
