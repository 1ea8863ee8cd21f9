"""Numbers in words, and axes with round numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.report.charts import linear_axis
from mple.report.quantities import (
    binary_size_text,
    change_text,
    duration_text,
    number_word,
    share_text,
    signed_text,
    size_text,
)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (size_text(0), "0 B"),
        (size_text(999), "999 B"),
        (size_text(1000), "1.00 kB"),
        (size_text(20_136), "20.1 kB"),
        (size_text(999_499), "999 kB"),
        (size_text(999_600), "1.00 MB"),
        (size_text(202_097_591), "202 MB"),
        (size_text(-1_840_000), "−1.84 MB"),
        (size_text(805e12), "805 TB"),
        (binary_size_text(16), "16 B"),
        (binary_size_text(4096), "4 KiB"),
        (binary_size_text(1 << 20), "1 MiB"),
        (change_text(0.648), "−35.2 %"),
        (change_text(1.09645), "+9.64 %"),
        (change_text(1.0), "0.00 %"),
        (change_text(0.99999), "0.00 %"),
        (change_text(21.77), "+2077.0 %"),
        (share_text(0), "0 %"),
        (share_text(0.00005), "< 0.01 %"),
        (share_text(0.0512), "5.12 %"),
        (share_text(0.65), "65.0 %"),
        (duration_text(0), "0 s"),
        (duration_text(0.0004), "0.40 ms"),
        (duration_text(0.0123), "12.3 ms"),
        (duration_text(8.41), "8.41 s"),
        (duration_text(59.4), "59.4 s"),
        (duration_text(195.3), "3 min 15 s"),
        (duration_text(7500), "2 h 5 min"),
        (number_word(3), "three"),
        (number_word(32), "32"),
        (signed_text(-0.3783, ".4f"), "−0.3783"),
        (signed_text(12, ",.0f"), "+12"),
        (signed_text(-0.00001, ".4f"), "0.0000"),
    ],
)
def test_words(made: str, words: str) -> None:
    assert made.replace("\N{NO-BREAK SPACE}", " ") == words


@given(st.integers(-1000, 1000), st.floats(0, 1e6), st.booleans(), st.integers(2, 8))
def test_an_axis_holds_its_range_and_few_ticks_in_order(low: int, length: float, fixed: bool, most: int) -> None:
    axis = linear_axis("something", low, low + length, most=most, fixed=fixed)
    slack = 1e-6 * (axis.high - axis.low) + 4 * math.ulp(low + length)
    assert axis.low <= low + slack
    assert axis.high >= low + length - slack
    places = [tick.percent for tick in axis.ticks]
    assert places == sorted(set(places))
    assert len(places) <= most + 2
    assert places or fixed
    assert all(0 <= place <= 100 for place in places)
    assert 0 <= axis.percent(low) <= axis.percent(low + length) <= 100


def test_ticks_stand_at_their_own_numbers() -> None:
    axis = linear_axis("loss", 0, 2.3)
    assert [(tick.label, tick.percent) for tick in axis.ticks] == [("0", 0), ("1", 33.333), ("2", 66.667), ("3", 100)]
    within = linear_axis("seconds", 0, 12.5, most=6, fixed=True)
    assert [tick.label for tick in within.ticks] == ["0", "5", "10"]
    assert within.ticks[-1].percent == 80
