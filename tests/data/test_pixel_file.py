"""Pictures that a site keeps in a file without a name: the same as in memory, of every kind of source."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mple.data import NpzSource, open_source
from mple.data import source as reading
from mple.data.images import LabelledImages
from mple.data.pixel_file import PixelFile
from mple.morph import ImageShape

IMAGE = ImageShape(channels=3, height=5, width=4)
PIXELS = np.random.default_rng(1).integers(0, 256, (50, 3, 5, 4), dtype=np.uint8)


def test_pictures_come_back_in_any_order_and_to_many_threads(tmp_path: Path) -> None:
    kept = PixelFile(tmp_path, IMAGE, [PIXELS[:7], PIXELS[7:7], PIXELS[7:].copy()])
    assert not list(tmp_path.iterdir()), "the file has no name"
    assert (len(kept), kept.shape) == (50, PIXELS.shape)
    orders = [np.random.default_rng(seed).integers(0, 50, 200) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for order, taken in zip(orders, pool.map(kept.taken, orders), strict=True):
            np.testing.assert_array_equal(taken, PIXELS[order])
    assert kept.taken(np.empty(0, np.int64)).shape == (0, 3, 5, 4)
    with pytest.raises(OSError, match="ends within picture 50"):
        kept.taken(np.array([50]))


def test_labelled_images_are_the_same_from_memory_and_from_a_file(tmp_path: Path) -> None:
    labels = np.arange(50) % 3
    held, kept = (LabelledImages(one, labels) for one in (PIXELS, PixelFile(tmp_path, IMAGE, [PIXELS])))
    assert (held.shape, held.held_bytes) == (kept.shape, PIXELS.nbytes) and kept.held_bytes == 0
    places = np.array([3, 3, 49, 0])
    np.testing.assert_array_equal(kept.take(places).pixels_NCHW, held.take(places).pixels_NCHW)
    np.testing.assert_array_equal(kept.pixels_NCHW, held.pixels_NCHW)
    np.testing.assert_array_equal(np.concatenate(list(kept.blocks())), PIXELS)


def test_a_sites_part_is_the_same_in_memory_and_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(50) % 2
    x_NHWC = PIXELS.transpose(0, 2, 3, 1)
    np.savez_compressed(tmp_path / "set.npz", x_train=x_NHWC, y_train=labels, x_test=x_NHWC[:9], y_test=labels[:9])
    source = NpzSource(path=tmp_path / "set.npz", validation_share=0.2)
    held = open_source(source)
    monkeypatch.setattr(reading, "_HELD_BYTES", 10 * IMAGE.elements)
    kept = open_source(source, tmp_path)
    assert isinstance(kept.train.pixels, PixelFile) and not isinstance(kept.test.pixels, PixelFile)
    for one, other in ((kept.train, held.train), (kept.val, held.val), (kept.test, held.test)):
        np.testing.assert_array_equal(one.pixels_NCHW, other.pixels_NCHW)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert kept.notes == held.notes
