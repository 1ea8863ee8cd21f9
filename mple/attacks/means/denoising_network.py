"""A small network that takes noise off pictures, trained on public pictures alone.

Three scales with skips between them (a small U-Net: Ronneberger, Fischer & Brox, 2015). It is given the noisy picture
and the best linear estimate, and adds to the latter what is missing.

Legend: B pictures, P public pictures, C channels, H W size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mple.privacy import NoiseDistribution
from mple.privacy.bands import band_numbers, from_cosines


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSettings:
    """How long and how wide."""

    steps: int = 600
    batch: int = 32
    width: int = 24
    """Channels of the finest scale."""
    peak_lr: float = 2e-3
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.width) < 1 or not self.peak_lr > 0:
            raise ValueError(f"{self}: steps, batch and width must be 1 or more, peak_lr above 0")


class DenoisingNetwork(nn.Module):
    """Noisy picture and linear estimate in, picture out."""

    def __init__(self, channels: int, width: int, noise_deviation: float) -> None:
        super().__init__()
        self._scale = float((1 + noise_deviation**2) ** -0.5)
        self.fine = _pair(2 * channels, width)
        self.middle = _pair(width, 2 * width)
        self.coarse = _pair(2 * width, 4 * width)
        self.middle_again = _pair(6 * width, 2 * width)
        self.fine_again = _pair(3 * width, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, noisy_BCHW: Tensor, linear_BCHW: Tensor) -> Tensor:
        """The estimate, of the inputs' shape."""
        height, width = noisy_BCHW.shape[2:]
        both = torch.cat([noisy_BCHW * self._scale, linear_BCHW], dim=1)
        both = functional.pad(both, (0, -width % 4, 0, -height % 4), mode="replicate")
        fine = self.fine(both)
        middle = self.middle(functional.avg_pool2d(fine, 2))
        coarse = self.coarse(functional.avg_pool2d(middle, 2))
        middle = self.middle_again(torch.cat([middle, functional.interpolate(coarse, scale_factor=2)], dim=1))
        fine = self.fine_again(torch.cat([fine, functional.interpolate(middle, scale_factor=2)], dim=1))
        added: Tensor = self.last(fine)[:, :, :height, :width]
        return linear_BCHW + added


def trained_network(
    clean_PCHW: Tensor, distribution: NoiseDistribution, linear: Callable[[Tensor], Tensor], settings: NetworkSettings
) -> DenoisingNetwork:
    """Train on public pictures, mirrored at random, each time under new noise.

    Args:
        clean_PCHW: Network inputs.
        distribution: Of the noise.
        linear: The linear estimate of noisy pictures.
        settings: How long and how wide.
    """
    dice = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = DenoisingNetwork(clean_PCHW.shape[1], settings.width, distribution.deviation())
    deviation_CHW = torch.from_numpy(np.sqrt(distribution.variance_K())[band_numbers(distribution.spectrum.image)])
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.peak_lr, total_steps=settings.steps)
    for _ in range(settings.steps):
        clean = clean_PCHW[torch.randint(len(clean_PCHW), (settings.batch,), generator=dice)]
        mirrored = torch.rand(len(clean), 1, 1, 1, generator=dice) < 0.5
        clean = torch.where(mirrored, clean.flip(3), clean)
        draw = torch.randn(clean.shape, generator=dice, dtype=torch.float64) * deviation_CHW
        noisy = clean + torch.from_numpy(from_cosines(draw.numpy())).float()
        loss = functional.mse_loss(network(noisy, linear(noisy)), clean)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    network.eval()
    return network


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.SiLU()
    )
