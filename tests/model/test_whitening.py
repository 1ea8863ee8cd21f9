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


@pytest.mark.parametrize(("channels", "expected"), [(1, 4.0), (3, 9.0)])
def test_features_of_pictures_of_natural_power_are_far_whiter_than_pixels(channels: int, expected: float) -> None:
    kernels = whitening_kernels(9 * channels, channels, 3).reshape(9 * channels, -1)
    windows = np.lib.stride_tricks.sliding_window_view(pink_pictures(channels), (3, 3), (2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 9 * channels)
    raw, white = np.linalg.cond(np.cov(patches.T)), np.linalg.cond(np.cov((patches @ kernels.T).T))
    assert raw / white > expected


def test_no_kernel_lives_on_the_finest_detail() -> None:
    """A codec's error is white: what it does to a feature is the kernel's norm, against the feature's own deviation of
    about 1. Whatever the mixture, that is at most one over the root of the floor."""
    for filters, channels, kernel in SHAPES:
        norms = np.linalg.norm(whitening_kernels(filters, channels, kernel).reshape(filters, -1), axis=1)
        assert norms.max() < 2.3


def test_the_published_table_gives_the_published_kernels() -> None:
    """Golden: all parties make this stem for themselves, so it may never change."""
    digests = {
        (filters, channels, kernel): planned(filters, channels, kernel).digest().hex()[:16]
        for filters, channels, kernel in [(64, 3, 3), (16, 1, 3), (64, 3, 5), (16, 3, 7), (64, 4, 1)]
    }
    assert digests == {
        (64, 3, 3): "4e620feb07a1a252",
        (16, 1, 3): "2be3f39826a10eb9",
        (64, 3, 5): "bb01231c6c521b68",
        (16, 3, 7): "67856e0ec66437fd",
        (64, 4, 1): "48b76865c565a982",
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


def test_a_stem_is_whitening_unless_the_settings_say_else() -> None:
    assert planned_stem(ModelSettings(), filters=16, channels=3).digest() == Stem(whitening_kernels(16, 3, 3)).digest()
    seeded = planned_stem(ModelSettings(stem="seed"), filters=16, channels=3)
    assert seeded.digest() == Stem.from_seed("mple-stem-1", filters=16, channels=3, kernel=3).digest()


@pytest.mark.parametrize("stem", [None, "whitening"])
def test_a_seed_that_draws_nothing_is_refused(stem: str | None) -> None:
    with pytest.raises(ValueError, match=r'stem_seed = "mine" would change nothing .*; set stem = "seed"'):
        ModelSettings(stem=stem, stem_seed="mine")
