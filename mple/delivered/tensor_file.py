"""Safetensors files of networks, without torch: bfloat16, which numpy lacks, is read as float32 of the same value."""

import json

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import Tensors, require_network

_LENGTH_BYTES = 8


def network_to_safetensors(tensors: Tensors, about: NetworkAbout) -> bytes:
    """The file `model.safetensors`."""
    return save(dict(tensors), metadata=about.to_metadata())


def network_from_safetensors(content: bytes, where: str) -> tuple[NetworkAbout, dict[str, NDArray[np.float32]]]:
    """Read `model.safetensors` back.

    Raises ValueError: `where` is no such file, or damaged.
    """
    tensors = tensors_of(content, where)
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")])
    about = NetworkAbout.from_metadata(header.get("__metadata__"), where)
    require_network(tensors, about, where)
    return about, tensors


def tensors_of(content: bytes, where: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file of F32 and BF16 as float32; whole numbers (I64) are left out.

    Raises ValueError: it is damaged, or has numbers of another type.
    """
    try:
        parts = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as fault:
        raise ValueError(f"{where} is no safetensors file, or damaged: {fault}") from None
    found: dict[str, NDArray[np.float32]] = {}
    for name, part in parts:
        kind, data = part["dtype"], part["data"]
        if kind == "BF16":
            flat = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind == "F32":
            flat = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        elif kind == "I64":
            continue
        else:
            raise ValueError(f"{where}: {name[:80]!r} has numbers of type {kind}; allowed are F32, BF16 and I64")
        found[name] = flat.reshape(part["shape"])
    return found
