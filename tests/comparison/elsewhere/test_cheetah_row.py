"""Settings and row of the CHEETAH measurement, short of SPU itself."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from comparison.elsewhere import cheetah
from comparison.elsewhere.cheetah import CheetahSettings
from comparison.elsewhere.environment import Requirements
from comparison.elsewhere.unavailable import Reason, Unavailable
from comparison.elsewhere_row import run_cheetah
from comparison.networks.small import small_network


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 0},
        {"fraction_bits": 7},
        {"fraction_bits": 25},
        {"time_limit_s": 0.0},
        {"memory_limit_bytes": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CheetahSettings(**wrong)


def test_what_cant_be_installed_is_a_skipped_row_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_wheel(wanted: Requirements) -> NoReturn:
        raise Unavailable(Reason.NO_WHEEL, wanted.name)

    monkeypatch.setattr(cheetah, "ensure_environment", no_wheel)
    row = run_cheetah(small_network(), np.zeros((1, 3, 8, 8), np.uint8), tmp_path / "cheetah")
    assert row.skipped.startswith("no wheel: ")
    assert (row.inferences, row.same_class) == (0, None)
