"""The `mple` command as it is typed, and a simulation small enough to type it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

SMALL = """
sites = ["north", "south"]
[data]
kind = "npz"
path = "set.npz"
[model]
width = 0.0625
[training]
epochs = 2
batch = 8
peak_lr = 0.02
[machine]
trainer_threads = 1
"""
Said = Callable[..., tuple[int, str, str]]
"""Exit code, what the command said, what it complained of."""


def small_simulation(folder: Path, images: int = 40) -> Path:
    """The file of a simulation with two sites, and beside it pictures of two classes, a quarter for testing."""
    dice = np.random.Generator(np.random.PCG64(5))
    labels = np.arange(images) % 2
    pixels = (dice.integers(0, 100, (images, 28, 28)) + 100 * labels[:, None, None]).astype(np.uint8)
    train, test = slice(images * 3 // 4), slice(images * 3 // 4, None)
    np.savez(folder / "set.npz", x_train=pixels[train], y_train=labels[train], x_test=pixels[test], y_test=labels[test])
    path = folder / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path
