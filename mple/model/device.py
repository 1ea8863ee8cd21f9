"""What tensors are computed on. Whoever makes tensors or asks what a device can do, asks here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mple.model.settings import DeviceName


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and whether there are products on it that are faster than torch's own."""

    torch_device: torch.device
    packs: bool = False
    """Fixed matrices are laid out for oneDNN, where it is there; for processors only."""

    @classmethod
    def named(cls, name: DeviceName) -> Device:
        """The device that a configuration names; `auto` is the processor, as long as there is no other."""
        return {DeviceName.AUTO: CPU, DeviceName.CPU: CPU}[name]

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor in the device's memory, itself if it is there."""
        return tensor.to(self.torch_device)

    def place_module(self, module: nn.Module) -> nn.Module:
        """The module itself, its weights now in the device's memory."""
        return module.to(self.torch_device)

    def autocast(self, dtype: torch.dtype) -> torch.autocast:
        """To be entered around arithmetic in bfloat16; with float32 it keeps that."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


CPU = Device(torch.device("cpu"), packs=True)
