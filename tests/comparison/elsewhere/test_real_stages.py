"""A quantised network in real numbers: close to it, stage by stage."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.elsewhere.real_stages import real_stages, run_real
from comparison.networks.quantised import LinearStage


def stage(
    weights: object, bias: object, shift: int | None, *, pool: str = "none", flatten: bool = False
) -> LinearStage:
    return LinearStage(
        name="a",
        weights_OIpp=np.asarray(weights, np.int32),
        bias_O=np.asarray(bias, np.int64),
        shift=shift,
        pool=pool,  # type: ignore[arg-type]
        flatten=flatten,
    )


def test_a_network_of_one_pixel_by_hand() -> None:
    hidden = stage([[[[3]]], [[[-2]]]], [1, 0], 2)
    last = stage([[[[10]], [[100]]]], [5], None)
    found = run_real(real_stages([hidden, last]), np.full((1, 1, 1, 1), 7))
    # (3 * 7 + 1) / 4 = 5.5, less 3/8 that rounding down by 4 takes off on average; -14 is cut off at 0.
    assert found.tolist() == [[10 * 5.125 + 5]]


@pytest.mark.parametrize(("pool", "expected"), [("max", [[9.0]]), ("sum", [[10.0]])])
def test_pools(pool: str, expected: list[list[float]]) -> None:
    hidden = stage([[[[1]]]], [0], 0, pool=pool)
    last = stage([[[[1]]]], [0], None)
    x_NCHW = np.array([[[[1, 9], [-3, 0]]]])
    assert run_real(real_stages([hidden, last]), x_NCHW).tolist() == expected


def test_flattening_goes_channel_by_channel() -> None:
    last = stage(np.array([1, 10, 100, 1000]).reshape(1, 4, 1, 1), [0], None, flatten=True)
    x_NCHW = np.array([[[[1, 2]], [[3, 4]]]])
    assert run_real(real_stages([last]), x_NCHW).tolist() == [[4321.0]]


def test_each_activation_differs_from_the_rounded_one_by_less_than_a_step_and_not_on_average() -> None:
    generator = np.random.default_rng(1)
    hidden = stage(generator.integers(-60, 60, (8, 3, 3, 3)), generator.integers(0, 4000, 8), 6)
    same = stage(np.eye(8).reshape(8, 8, 1, 1), np.zeros(8), None)
    x_NCHW = generator.integers(0, 64, (4, 3, 1, 1))
    sums = np.einsum("oi,ni->no", hidden.weights_OIpp[:, :, 1, 1], x_NCHW[:, :, 0, 0]) + hidden.bias_O
    rounded = np.maximum(sums, 0) >> 6
    differences = run_real(real_stages([hidden, same]), x_NCHW) - rounded
    assert np.abs(differences).max() < 1
    assert abs(differences.mean()) < 0.15
