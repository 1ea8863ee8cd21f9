"""VGG-16 as torchvision has it, written out by hand from its published configuration D: what files of its weights are
compared with. Torchvision itself can't be installed beside every torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONFIGURATION_D = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class TorchvisionVgg16(nn.Module):
    """`features` with torchvision's names, of a run's widths (eight channels at least), and where there are classes a
    last layer behind the mean over positions."""

    def __init__(
        self, *, batch_norm: bool, width: float = 1.0, channels: int = 3, kernel: int = 3, classes: int = 0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = channels, kernel
        for entry in CONFIGURATION_D:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            out = max(8, int(entry * width))
            layers.append(nn.Conv2d(before, out, kernel_size=side, padding=side // 2))
            layers += [nn.BatchNorm2d(out)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            before, side = out, 3
        self.features = nn.Sequential(*layers)
        if classes:
            self.classifier = nn.Linear(before, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, by the mean over positions."""
        logits_BC: Tensor = self.classifier(self.features(x_BCHW).mean(dim=(2, 3)))
        return logits_BC


def lived_in(network: TorchvisionVgg16, seed: int = 1) -> TorchvisionVgg16:
    """The same with weights, biases and statistics that are neither zero nor one, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3, generator=generator)
            nn.init.normal_(module.bias, std=0.2, generator=generator)
            nn.init.normal_(module.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.6, 1.5, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.normal_(module.bias, std=0.2, generator=generator)
    return network.eval()
