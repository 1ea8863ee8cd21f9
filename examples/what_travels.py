"""Draws what a site has, what travels, and what the compute node can look at: python examples/what_travels.py OUT.png

The same pictures in three rows: as the site holds them; morphed, as a tap on the wire or a stolen cache shows them;
and the one first-layer feature map, of those that the compute node works on, that looks most like the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.stem import Stem
from mple.morph import PRESETS, MorphKey, draw_order
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher

mpl.use("Agg")
from matplotlib import pyplot as plt

_SHOWN = 8


def main(out: Path) -> None:
    """Morph eight CIFAR-10 test pictures under a new key and draw the three rows."""
    images = open_source(Cifar10Source(most_test=_SHOWN, most_train=1)).test
    scheme, key = PRESETS["compact"], MorphKey.generate()
    x_BCHW = normalise(images.pixels_NCHW, NormalisationSettings(mean=(0.5,), std=(0.25,)))
    t_BKQ = Morpher(scheme, images.shape, key, session=b"picture", key_epoch=1).morph(x_BCHW)
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3)
    layer = build_augmented_layer(
        scheme,
        images.shape,
        stem.kernels_FCpp,
        key,
        draw_order(key.seed, "channel order", 64),
        session=b"picture",
        key_epoch=1,
    )
    f_BFHW, grey_BHW = torch.from_numpy(layer.apply(t_BKQ)), torch.from_numpy(x_BCHW.mean(1))
    rows = {
        "at the site": images.pixels_NCHW.transpose(0, 2, 3, 1),
        "on the wire": _stretched(torch.from_numpy(t_BKQ.reshape(_SHOWN, 3, 32, 32))).permute(0, 2, 3, 1).numpy(),
        "at the compute node": _stretched(_most_alike(f_BFHW, grey_BHW)).numpy(),
    }
    figure, axes = plt.subplots(len(rows), _SHOWN, figsize=(_SHOWN * 1.1, len(rows) * 1.2), layout="constrained")
    for (title, pictures), line in zip(rows.items(), axes, strict=True):
        for picture, axis in zip(pictures, line, strict=True):
            axis.imshow(picture, cmap="grey")
            axis.set_axis_off()
        line[0].set_title(title, loc="left", fontsize=9)
    figure.savefig(out, dpi=110)
    alike_B = _correlation(f_BFHW, grey_BHW).amax(1)
    print(f"the most alike feature map correlates with the grey picture at {alike_B.mean():.2f} on average")


def _correlation(f_BFHW: Tensor, grey_BHW: Tensor) -> Tensor:
    """Absolute correlation (B, F) of every feature map with the grey picture."""
    maps = f_BFHW.flatten(2) - f_BFHW.flatten(2).mean(2, keepdim=True)
    grey = (grey_BHW.flatten(1) - grey_BHW.flatten(1).mean(1, keepdim=True))[:, None]
    return ((maps * grey).sum(2) / (maps.norm(dim=2) * grey.norm(dim=2))).abs()


def _most_alike(f_BFHW: Tensor, grey_BHW: Tensor) -> Tensor:
    """The one channel (B, H, W) that is most like the pictures on average, turned the right way round."""
    best = int(_correlation(f_BFHW, grey_BHW).mean(0).argmax())
    sign = torch.sign(((f_BFHW[:, best] - f_BFHW[:, best].mean()) * (grey_BHW - grey_BHW.mean())).sum())
    return f_BFHW[:, best] * sign


def _stretched(values: Tensor) -> Tensor:
    """Each picture's values from 0 to 1, 1 % cut off on either side."""
    flat = values.flatten(1)
    low, high = (torch.quantile(flat, q, dim=1).view(-1, *[1] * (values.ndim - 1)) for q in (0.01, 0.99))
    return ((values - low) / (high - low)).clamp(0, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("what_travels.png"))
