"""PSNR and SSIM against their definitions, written out."""

from __future__ import annotations

import numpy as np
import pytest

from mple.privacy.picture_scores import psnr, ssim

DICE = np.random.default_rng(3)


def by_definition(x_HW: np.ndarray, y_HW: np.ndarray) -> float:
    """Wang et al. (2004), equation 13, window by window."""
    places = np.arange(11) - 5
    weights = np.exp(-(places[:, None] ** 2 + places[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(x_HW.shape[0] - 10):
        for column in range(x_HW.shape[1] - 10):
            x, y = (side[row : row + 11, column : column + 11].astype(float) for side in (x_HW, y_HW))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            both = (weights * (x - mean_x) * (y - mean_y)).sum()
            values.append(
                (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
            )
    return float(np.mean(values))


def test_ssim_is_the_definition() -> None:
    x = DICE.integers(0, 256, (2, 3, 14, 17)).astype(np.uint8)
    y = np.clip(x + DICE.normal(0, 30, x.shape), 0, 255).astype(np.float32)
    expected = [np.mean([by_definition(x[n, c], y[n, c]) for c in range(3)]) for n in range(2)]
    assert ssim(x, y) == pytest.approx(expected, abs=1e-9)


def test_equal_pictures_score_one_and_unrelated_ones_nearly_nothing() -> None:
    x = DICE.integers(0, 256, (4, 1, 32, 32)).astype(np.uint8)
    assert ssim(x, x) == pytest.approx(1.0)
    assert np.isinf(psnr(x, x)).all()
    assert abs(ssim(x, DICE.integers(0, 256, x.shape).astype(np.uint8)).mean()) < 0.1


def test_flat_pictures_differ_by_their_brightness_alone() -> None:
    """Without variance the formula is (2ab + C1) / (a² + b² + C1)."""
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    x, y = (np.full((1, 1, 11, 11), level, np.float32) for level in (a, b))
    assert ssim(x, y)[0] == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))
    assert psnr(x, y)[0] == pytest.approx(20 * np.log10(255 / 40))


@pytest.mark.parametrize("shapes", [((1, 1, 16, 16), (2, 1, 16, 16)), ((1, 1, 10, 16), (1, 1, 10, 16))])
def test_what_can_not_be_compared_is_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="pictures of shape"):
        ssim(*(np.zeros(shape, np.float32) for shape in shapes))
