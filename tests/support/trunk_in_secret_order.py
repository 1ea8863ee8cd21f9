"""A narrow trunk as a compute node trains it, in secret orders, with weights of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mple.data.normalise import normalise
from mple.delivered.about import about_network
from mple.delivered.assembly import plain_network
from mple.model.settings import ModelSettings
from mple.model.stem import Stem
from mple.model.weights import build_trunk
from mple.plan import DeliverySettings, NormalisationSettings, WireSettings
from mple.plan.orders import channel_order, label_order
from tests.support.small_plan import small_plan

CLASSES = ("cyst", "normal", "tumour", "unclear")
SECRET = bytes(range(4, 36))
"""The consortium secret; the orders that it draws differ from their inverses."""
EXACT = WireSettings(codec="f32", layer="f32")


class TrunkInSecretOrder:
    """A trunk in secret orders with weights of every kind, and what the plain network is made of."""

    def __init__(
        self,
        *,
        channels: int = 3,
        side: int = 32,
        width: float = 0.0625,
        kernel: int = 3,
        wire: WireSettings = EXACT,
        delivery: DeliverySettings | None = None,
    ) -> None:
        model = ModelSettings(width=width, kernel=kernel)
        by = NormalisationSettings(mean=(0.4, 0.5, 0.45)[:channels], std=(0.2, 0.25, 0.3)[:channels])
        plan = small_plan(classes=CLASSES, model=model, normalisation=by, channels=channels, side_px=side, wire=wire)
        self.plan = replace(plan, delivery=delivery or DeliverySettings())
        self.about = about_network(self.plan, model_sha256="ab" * 32, epoch=3)
        draw = np.random.default_rng(7)
        self.channel_order, self.label_order = channel_order(self.plan, SECRET), label_order(self.plan, SECRET)
        self.stem = Stem.from_seed("s", filters=model.filters, channels=channels, kernel=kernel)
        self.trunk = build_trunk(model, len(CLASSES), 1)
        with torch.no_grad():
            for module in self.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for tensor, least in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.2)):
                        tensor.copy_(torch.from_numpy(draw.uniform(least, least + 1, len(tensor))))
                    module.running_mean.copy_(torch.from_numpy(draw.normal(0, 0.2, len(module.running_mean))))
        head = self.trunk.get_submodule("classifier.3").weight
        nn.init.normal_(head, std=0.05, generator=torch.Generator().manual_seed(2))
        self.trunk.eval()
        self.pixels_BCHW = draw.integers(0, 256, (3, channels, side, side)).astype(np.uint8)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        trunk = {name: tensor.numpy() for name, tensor in self.trunk.state_dict().items()}
        return plain_network(self.about, trunk, self.stem.kernels_FCpp, self.channel_order, self.label_order)

    @torch.no_grad()
    def morphed_logits(self) -> NDArray[np.float32]:
        """By the trunk as the compute node has it: features in the secret order, answers put back by it."""
        x_BCHW = torch.from_numpy(normalise(self.pixels_BCHW, self.plan.normalisation))
        kernels = torch.from_numpy(self.stem.kernels_FCpp)
        f_BFHW = nn.functional.conv2d(x_BCHW, kernels, padding=kernels.shape[-1] // 2)
        logits_BC = np.empty((len(x_BCHW), len(CLASSES)), np.float32)
        logits_BC[:, self.label_order] = self.trunk(f_BFHW[:, self.channel_order]).numpy()
        return logits_BC
