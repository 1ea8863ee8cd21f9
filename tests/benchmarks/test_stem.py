"""Figures of the benchmark of stems."""

from __future__ import annotations

import pytest

from benchmarks.stem import epochs_to


def test_epochs_to_an_accuracy_lie_on_a_line_between_two_epochs() -> None:
    curve = [0.4, 0.6, 0.55, 0.8]
    assert epochs_to(0.4, curve) == pytest.approx(1.0)
    assert epochs_to(0.5, curve) == pytest.approx(1.5)
    assert epochs_to(0.7, curve) == pytest.approx(3.6)
    assert epochs_to(0.81, curve) is None
