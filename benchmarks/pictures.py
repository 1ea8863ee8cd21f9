"""Real pictures for benchmarks, and what they weigh: as raw pixels, as PNG, and as blocks before morphing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data import Cifar10Source, Dataset, DataSource, NpzSource, Partition, PartitionKind, open_source
from mple.data.normalise import normalise
from mple.morph import Ensemble
from mple.morph.morpher import to_blocks
from mple.plan import RunPlan
from mple.simulate.settings import SimulationSettings
from mple.wire.codecs import codec_named

_AT_ONCE = 512
_TEST_SHARE = 1 / 6
"""As CIFAR-10 is split."""


def cifar(images_a_site: int) -> DataSource:
    """A random part of CIFAR-10 for each site of a simulation, a sixth of it for testing."""
    test = round(images_a_site * _TEST_SHARE)
    return Cifar10Source(
        partition=Partition(kind=PartitionKind.IID),
        most_train=images_a_site - test,
        most_test=test,
    )


def upscaled_cifar(side_px: int, images: int, path: Path) -> DataSource:
    """The first pictures of CIFAR-10 resized (bicubic) into an .npz file, to be split over sites.

    No detail comes in: larger pictures are smoother than photographs of that size, and cheaper to code.
    """
    whole = open_source(Cifar10Source())
    test = round(images * _TEST_SHARE)
    arrays = {}
    for name, split, count in (("train", whole.train, images - test), ("test", whole.test, test)):
        taken = split.take(np.arange(count, dtype=np.int64))
        arrays[f"x_{name}"], arrays[f"y_{name}"] = _resized(taken.pixels_NCHW, side_px), taken.labels
    np.savez(path, **arrays)
    return NpzSource(path=path, partition=Partition(kind=PartitionKind.IID))


def site_data(settings: SimulationSettings) -> list[Dataset]:
    """What each site of a simulation holds."""
    return [open_source(settings.site_source(place)) for place in range(len(settings.sites))]


def png_bytes(pixels_NCHW: NDArray[np.uint8]) -> int:
    """Size of all pictures as PNG files, one each, at pillow's best effort."""
    with ThreadPoolExecutor() as pool:  # zlib works outside of the interpreter's lock
        return sum(map(len, pool.map(png_file, pixels_NCHW.transpose(0, 2, 3, 1))))


def png_file(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file, at pillow's best effort."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels_HWC)).save(file, "PNG", optimize=True)
    return file.getvalue()


def predicted_bits(plan: RunPlan, pixels_NCHW: NDArray[np.uint8]) -> float | None:
    """Bits of a morphed value under the plan's codec, from the plain pictures' blocks alone.

    None for `qN` under uniform cores: their blocks are far from Gaussian, which its models are not made for.
    """
    codec, scheme = codec_named(plan.wire.codec), plan.morph.scheme()
    if codec.rounding_deviation and scheme.ensemble is not Ensemble.ORTHOGONAL:
        return None
    normalisation = plan.normalisation
    rms = []
    for low in range(0, len(pixels_NCHW), _AT_ONCE):
        x_BKQ = to_blocks(normalise(pixels_NCHW[low : low + _AT_ONCE], normalisation), scheme, plan.geometry)
        rms.append(np.sqrt(np.square(x_BKQ, dtype=np.float64).mean(2)).ravel())  # an orthogonal core keeps it
    return codec.bits_a_value(np.concatenate(rms), plan.geometry.core_side)


def all_pixels(sites: Sequence[Dataset]) -> NDArray[np.uint8]:
    """Train and test pictures of all sites (N, C, H, W)."""
    return np.concatenate([split.pixels_NCHW for site in sites for split in (site.train, site.test)])


def _resized(pixels_NCHW: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    if side_px == pixels_NCHW.shape[2]:
        return np.ascontiguousarray(pixels_NCHW.transpose(0, 2, 3, 1))
    size = (side_px, side_px)
    return np.stack(
        [
            np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            for picture in pixels_NCHW.transpose(0, 2, 3, 1)
        ]
    )
