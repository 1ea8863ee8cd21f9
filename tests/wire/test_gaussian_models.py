"""The fixed entropy models: what their tables hold, what choosing among them costs, and what another machine's do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mple.per_node import Common
from mple.wire import gaussian_models
from mple.wire.codecs import codec_named
from mple.wire.gaussian_models import CLASSES, LARGEST_CODE, ModelsDifferError, classes_of

CODES = np.arange(-LARGEST_CODE, LARGEST_CODE + 1)
DEVIATIONS = 2.0 ** (np.arange(CLASSES) / 4 - 3)
TABLES = gaussian_models._code_tables()


def rounded_gaussian(deviation: float) -> NDArray[np.float64]:
    """Masses of codes -127 to 127, tails beyond them left out, from `math.erfc`: exact for far codes, too."""
    beyond = [math.erfc((code - 0.5) / (deviation * math.sqrt(2))) / 2 for code in range(1, LARGEST_CODE + 2)]
    half = [beyond[code - 1] - beyond[code] for code in range(1, LARGEST_CODE + 1)]
    mass: NDArray[np.float64] = np.array([*reversed(half), 1 - 2 * beyond[0], *half])
    mass /= mass.sum()
    return mass


def test_there_is_a_table_for_each_class_and_every_code_can_be_written() -> None:
    assert (len(TABLES), DEVIATIONS[0], DEVIATIONS[-1]) == (CLASSES, 1 / 8, 128)
    for table in TABLES:
        assert len(table) == 2 * LARGEST_CODE + 1
        assert table.min() >= 1
        assert table.tolist() == table[::-1].tolist()
        assert abs(int(table.sum()) - 2**22) <= 2 * LARGEST_CODE
        assert int(table.max()) < 2**32, "the digest is over 32-bit numbers"


def test_tables_are_gaussians_of_their_deviations() -> None:
    """Where tails count, in the widest classes, the outermost codes hold them."""
    for table, deviation in zip(TABLES[:30], DEVIATIONS, strict=False):
        mass = rounded_gaussian(float(deviation))
        assert np.abs(table[1:-1] - mass[1:-1] * 2**22).max() <= 1
    inside = math.erf(126.5 / (128 * math.sqrt(2)))
    assert TABLES[-1][0] == round((1 - inside) / 2 * 2**22)


@pytest.mark.parametrize(("most", "decay"), [(CLASSES - 1, 0.65), (120, 0.02)])
def test_steps_are_the_less_likely_the_larger(most: int, decay: float) -> None:
    table = gaussian_models._two_sided(most, decay)
    assert len(table) == 2 * most + 1
    assert table.tolist() == table[::-1].tolist()
    assert (np.diff(table[most:]) <= 0).all()
    assert (table[most], table[most + 1], table.min()) == (2**22, round(decay * 2**22), 1)


def test_a_machine_with_other_tables_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    other = gaussian_models._code_tables()
    other[7][127] += 1  # as another rounding of the last bit would
    monkeypatch.setattr(gaussian_models, "_code_tables", lambda: other)
    assert_refused(monkeypatch)


def test_tables_that_were_not_released_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_models, "_DIGEST", "0" * 64)
    assert_refused(monkeypatch)


def assert_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_models, "_models", Common())
    try:
        with pytest.raises(ModelsDifferError, match=r"other entropy models .* set wire.codec to f32 or f16"):
            codec_named("q6").unpack(b"", samples=0, blocks=1, values=1)
    finally:
        monkeypatch.undo()
    assert codec_named("q6").unpack(b"", samples=0, blocks=1, values=1).codes_BV.size == 0


def chosen_class(deviation: float) -> int:
    """Of a block so long that its mean square is that of the rounded Gaussian."""
    mean_square = float((rounded_gaussian(deviation) * CODES**2).sum())
    return int(np.searchsorted(gaussian_models._CLASS_BORDERS, mean_square))


def test_the_class_is_the_nearest_in_ratio() -> None:
    """From one step of a code down to an eighth as well, where rounding leaves little of a Gaussian."""
    for deviation in 2.0 ** np.arange(-3, 5, 0.01):
        off = np.abs(np.log2(DEVIATIONS / deviation))
        chosen = chosen_class(float(deviation))
        assert off[chosen] <= 1 / 8 + 1e-3, f"class {chosen} for {deviation}"


def test_rows_get_the_class_of_their_own_codes() -> None:
    generator = np.random.default_rng(1)
    for number in range(4, 29, 4):
        deviation = DEVIATIONS[number]
        codes_RQ = np.rint(generator.normal(0, deviation, (50, 4096))).astype(np.int8)
        assert set(classes_of(codes_RQ).tolist()) == {number}, deviation
    flat_and_full = np.array([[0] * 8, [127, -127] * 4, [-127] * 8, [1] + [0] * 7], np.int8)
    assert classes_of(flat_and_full).tolist() == [0, 40, 40, chosen(1 / 8)]
    assert classes_of(np.empty((0, 8), np.int8)).tolist() == []


def chosen(mean_square: float) -> int:
    return int(np.searchsorted(gaussian_models._CLASS_BORDERS, mean_square))


def test_another_class_than_the_exact_one_costs_at_most_0_012_bit() -> None:
    """Exactly: the cross entropy of a rounded Gaussian under the chosen table, less its own entropy."""
    costs = {}
    for deviation in 2.0 ** np.arange(-5, 4.8, 0.005):
        mass = rounded_gaussian(float(deviation))
        table = TABLES[chosen_class(float(deviation))]
        seen = mass > 0
        bits = np.log2(mass[seen]) - np.log2(table[seen] / table.sum())
        costs[float(deviation)] = float((mass[seen] * bits).sum())
    assert min(costs.values()) > -1e-9
    assert 0.011 < max(costs.values()) <= 0.012
