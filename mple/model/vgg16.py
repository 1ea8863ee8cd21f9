"""VGG-16 with batch normalisation (Simonyan & Zisserman, 2015; configuration D) behind a replaceable first layer.

For images of 28 to 224 pixels: pools round up, so that five of them leave one position of 28 pixels, and the mean over
positions feeds a single linear layer.

Legend: B batch, F filters of the stem, H W size, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mple.disk.whole_files import put_in_place

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLEST_PX, LARGEST_PX = 28, 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Vgg16Config:
    """Size of the trunk."""

    classes: int
    width: float = 1.0
    """Factor on all channel counts, at least 8 channels each; 1 is VGG-16."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.classes < 2 or not 0.0625 <= self.width <= 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"classes = {self.classes}, width = {self.width}, dropout = {self.dropout}; "
                "allowed are 2 and more, 0.0625 to 1, 0 to below 1"
            )

    def channels(self, full: int) -> int:
        """Channel count of a layer that has `full` in VGG-16."""
        return max(8, round(full * self.width))

    @property
    def filters(self) -> int:
        """Output channels of the stem."""
        return self.channels(_STAGES[0][0])


class Vgg16Trunk(nn.Module):
    """All of VGG-16 behind the first convolution: its batch norm, twelve convolutions, the last layer."""

    def __init__(self, config: Vgg16Config) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.BatchNorm2d(config.filters), nn.ReLU(inplace=True)]
        channels = config.filters
        for stage, counts in enumerate(_STAGES):
            for place, full in enumerate(counts):
                if stage == place == 0:
                    continue
                out = config.channels(full)
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(True)]
                channels = out
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels, config.classes)
        )

    def forward(self, f_BFHW: Tensor) -> Tensor:
        """Class scores (B, C) of the stem's features, for 28 to 224 pixels.

        Raises:
            ValueError: The maps are smaller or larger.
        """
        if not all(SMALLEST_PX <= extent <= LARGEST_PX for extent in f_BFHW.shape[2:]):
            raise ValueError(
                f"feature maps of {tuple(f_BFHW.shape[2:])}; VGG-16 takes {SMALLEST_PX} to {LARGEST_PX} pixels a side"
            )
        scores: Tensor = self.classifier(self.features(f_BFHW))
        return scores


class Vgg16(nn.Module):
    """A first layer, frozen, and the trunk. The first layer is the stem's convolution or an augmented layer."""

    def __init__(self, first: Callable[[Tensor], Tensor], trunk: Vgg16Trunk) -> None:
        super().__init__()
        self.first = first
        self.trunk = trunk

    def forward(self, inputs: Tensor) -> Tensor:
        """Class scores of images (with a stem) or of morphed blocks (with an augmented layer)."""
        with torch.no_grad():
            f_BFHW = self.first(inputs)
        scores: Tensor = self.trunk(f_BFHW)
        return scores


def build_trunk(config: Vgg16Config, seed: int) -> Vgg16Trunk:
    """A trunk with first weights drawn from a public seed, apart from torch's global random state; channels last."""
    with torch.random.fork_rng(devices=()):
        trunk = Vgg16Trunk(config)
    generator = torch.Generator().manual_seed(seed)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trunk


def state_sha256(trunk: Vgg16Trunk) -> str:
    """SHA-256, hexadecimal, over names, shapes and little-endian bytes of all weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\0".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_trunk(trunk: Vgg16Trunk, path: Path, about: Mapping[str, str]) -> None:
    """Write a trunk as safetensors, whole and on the disk, with texts about it as metadata."""
    temporary = path.with_name(path.name + ".part")
    save_file({name: t.contiguous() for name, t in trunk.state_dict().items()}, temporary, metadata=dict(about))
    put_in_place(temporary, path)


def load_trunk(trunk: Vgg16Trunk, path: Path) -> None:
    """Read weights into a trunk of the same size.

    Raises:
        ValueError: The file is damaged or of another network.
    """
    try:
        trunk.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as fault:
        raise ValueError(f"{path} does not hold this network's weights: {fault}") from None
