"""The whitening stem: what its kernels are, how many there may be, and the table that they come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mple.model import whitening
from mple.model.settings import ModelSettings
from mple.model.stem import Stem, mirror_images, planned_stem
from mple.model.whitening import TableDiffersError, whitening_kernels

SHAPES = [(filters, channels, kernel) for filters in (4, 9, 16, 64) for channels in (1, 2, 3, 4) for kernel in (1, 3)]


def planned(filters: int, channels: int, kernel: int) -> Stem:
    model = ModelSettings(stem="whitening", stem_mirrored=True, kernel=kernel)
    return planned_stem(model, filters=filters, channels=channels)


def pink_pictures(channels: int) -> NDArray[np.float64]:
    """Pictures (N, C, H, W) of a power that falls with the square of the frequency, as that of natural ones does, of
    alike channels."""
    generator = np.random.default_rng(7)
    y_HW, x_HW = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")
    amplitude_HW = 1 / np.hypot(y_HW, x_HW).clip(1 / 32)
    grey = generator.normal(size=(64, 1, 32, 32))
    mixed = grey + 0.3 * generator.normal(size=(64, channels, 32, 32))
    made = np.fft.ifft2(np.fft.fft2(mixed) * amplitude_HW).real
    return np.asarray(made / made.std())


@pytest.mark.parametrize(("filters", "channels", "kernel"), [*SHAPES, (64, 3, 5), (16, 3, 7), (64, 1, 5), (64, 1, 7)])
def test_kernels_are_many_distinct_and_closed_under_mirroring(filters: int, channels: int, kernel: int) -> None:
    stem = planned(filters, channels, kernel)
    assert stem.kernels_FCpp.shape == (filters, channels, kernel, kernel)
    images = mirror_images(stem)
    assert np.array_equal(stem.kernels_FCpp[images], stem.kernels_FCpp[..., ::-1])
    assert len({kernel.tobytes() for kernel in stem.kernels_FCpp}) == filters or channels == kernel == 1
    flat = stem.kernels_FCpp.reshape(filters, -1)
    directions = channels * kernel**2
    assert np.linalg.matrix_rank(flat) >= min(filters // 2, directions)
    plain = whitening_kernels(filters, channels, kernel)
    assert np.linalg.matrix_rank(plain.reshape(filters, -1)) == min(filters, directions)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_kernels_are_orthogonal_directions_then_their_negatives(kernel: int) -> None:
    count = 3 * kernel**2
    kernels = whitening_kernels(2 * count + 5, 3, kernel).reshape(-1, count)
    assert np.array_equal(kernels[:count], -kernels[count : 2 * count])
    norms = np.linalg.norm(kernels[:count], axis=1, keepdims=True)
    assert (np.diff(norms[:, 0]) >= -1e-3).all(), "the largest variance first"
    unit = kernels[:count] / norms
    assert unit @ unit.T == pytest.approx(np.eye(count), abs=1e-4)
    assert (unit[0] > 0).all(), "the mean"
    assert np.array_equal(kernels[:40], whitening_kernels(40, 3, kernel).reshape(40, -1)[: len(kernels[:40])])


@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_pictures_of_natural_power_have_like_variance_and_hardly_correlate(channels: int) -> None:
    kernels = whitening_kernels(9 * channels, channels, 3).reshape(9 * channels, -1)
    windows = np.lib.stride_tricks.sliding_window_view(pink_pictures(channels), (3, 3), (2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 9 * channels)
    features = patches @ kernels.T
    raw, white = np.cov(patches.T), np.cov(features.T)
    assert np.linalg.cond(white) < np.linalg.cond(raw) / 2.5
    if channels == 1:
        assert features.std(axis=0) == pytest.approx(np.ones(9), rel=0.75)
        off = np.corrcoef(features.T) - np.eye(9)
        assert np.abs(off).max() < 0.3


def test_the_published_table_gives_the_published_kernels() -> None:
    """Golden: all parties make this stem for themselves, so it may never change."""
    digests = {
        (filters, channels, kernel): planned(filters, channels, kernel).digest().hex()[:16]
        for filters, channels, kernel in [(64, 3, 3), (16, 1, 3), (64, 3, 5), (16, 3, 7), (64, 4, 1)]
    }
    assert digests == {
        (64, 3, 3): "9ead87d97b8ee99d",
        (16, 1, 3): "80967b24c97c9d69",
        (64, 3, 5): "d42ce854f8ae4bf9",
        (16, 3, 7): "1f1977486d807c6a",
        (64, 4, 1): "d898129ee70742dd",
    }


def test_another_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "patch_statistics.json"
    changed.write_bytes(whitening._TABLE.read_bytes() + b" ")
    monkeypatch.setattr(whitening, "_TABLE", changed)
    whitening._table.cache_clear()
    with pytest.raises(TableDiffersError, match=r'not the table that mple was released with.*model.stem = "seed"'):
        whitening_kernels(16, 3, 3)


def test_the_script_gives_the_shipped_table() -> None:
    """To a unit of the last place: eigenvectors may differ by a rounding between machines."""
    pytest.importorskip("sklearn", reason="the photographs come with scikit-learn and matplotlib")
    pytest.importorskip("matplotlib", reason="the photographs come with scikit-learn and matplotlib")
    from benchmarks import patch_statistics

    content = patch_statistics.TABLE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == whitening.TABLE_DIGEST
    pictures = [picture for photo in patch_statistics.photographs() for picture in patch_statistics.shrunk(photo)]
    made, shipped = patch_statistics.statistics(pictures), whitening._table()
    for name in ("colours", "directions", "variances"):
        found, kept = made[name], getattr(shipped, name)
        pairs = [(found, kept)] if isinstance(found, list) else [(found[side], kept[side]) for side in found]
        for one, other in pairs:
            assert np.array(one) == pytest.approx(np.array(other), abs=1.01e-5)
