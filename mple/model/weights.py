"""A trunk's weights, whatever kind it is of: drawn from a seed, in a file, and their digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mple.disk.private import private_file
from mple.disk.whole_files import put_in_place
from mple.model.settings import ModelSettings
from mple.model.trunks import TRUNKS


def build_trunk(model: ModelSettings, classes: int, seed: int) -> nn.Module:
    """A trunk with first weights drawn from a public seed, as `model.init` says; apart from torch's global random
    state, channels last."""
    with torch.random.fork_rng(devices=()):
        trunk = TRUNKS[model.trunk].make(model, classes)
    generator = torch.Generator().manual_seed(seed)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if model.init == "identity":
                nn.init.dirac_(module.weight[: module.in_channels])
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trunk


def state_sha256(trunk: nn.Module) -> str:
    """SHA-256, hexadecimal, over names, shapes and little-endian bytes of all weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_trunk(trunk: nn.Module, path: Path, about: Mapping[str, str]) -> None:
    """Write a trunk as safetensors, whole and on the disk, with texts about it as metadata."""
    save_tensors(trunk.state_dict(), path, about)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str]) -> None:
    """Write tensors by name as safetensors, whole and on the disk, with texts about them as metadata."""
    temporary = path.with_name(path.name + ".part")
    save_file(
        {name: t.cpu().contiguous() for name, t in tensors.items()}, private_file(temporary), metadata=dict(about)
    )
    put_in_place(temporary, path)


def load_trunk(trunk: nn.Module, path: Path) -> None:
    """Read weights into a trunk of the same size. Raises ValueError: the file is damaged or of another network."""
    try:
        trunk.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as fault:
        raise ValueError(f"{path} does not hold this network's weights: {fault}") from None
