"""The papers' count of overhead, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from mple.meter.paper import count_elements
from mple.morph import PRESETS, ImageShape

CIFAR = ImageShape(channels=3, height=32, width=32)


def test_the_published_figure_for_cifar() -> None:
    """5.12 %: 3072 elements of an image over 60000 images."""
    count = count_elements(PRESETS["paper"], CIFAR, images=60_000, sites=1, filters=64, kernel=3)
    assert count.quoted_ratio == pytest.approx(0.0512)


def test_what_is_really_sent_with_a_dense_layer() -> None:
    """One 3072 x 65536 layer and 60000 images of 3072 values, over those images."""
    count = count_elements(PRESETS["paper"], CIFAR, images=60_000, sites=1, filters=64, kernel=3)
    assert count.sent_ratio == pytest.approx(1 + 3072 * 65_536 / (60_000 * 3072))


def test_what_is_really_sent_with_a_tiled_layer() -> None:
    """Tiles of 8 x 8 with one core: 192 values of a tile reach 64 x 10 x 10 outputs; each of two sites sends that."""
    count = count_elements(PRESETS["compact"], CIFAR, images=50_000, sites=2, filters=64, kernel=3)
    assert count.sent_ratio == pytest.approx(1 + 2 * 192 * 6400 / (50_000 * 3072))


def test_a_padded_image_sends_its_border_too() -> None:
    """The MoLe authors' code pads 32 x 32 to 34 x 34 first."""
    count = count_elements(PRESETS["mole"], CIFAR, images=10**9, sites=1, filters=64, kernel=3)
    assert count.sent_ratio == pytest.approx(34 * 34 / (32 * 32), rel=1e-3)
