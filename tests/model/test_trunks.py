"""The table of trunks: what a plan reads of it, and that one more kind is one more row and its module."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from mple.model.settings import ModelSettings, TrainingSettings
from mple.model.training import TrunkTrainer
from mple.model.trunks import TRUNKS, TrunkSpec
from mple.model.weights import build_trunk, state_sha256


class Mean(nn.Module):
    """The smallest trunk that learns."""

    def __init__(self, filters: int, classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(filters, classes)

    def forward(self, f_BFHW: Tensor) -> Tensor:
        scores: Tensor = self.last(f_BFHW.mean((2, 3)))
        return scores


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_takes_the_filters_and_sides_that_its_row_says(name: str) -> None:
    model, spec = ModelSettings(trunk=name, width=0.0625), TRUNKS[name]
    trunk = build_trunk(model, 3, seed=1).eval()
    for side in (spec.least_px, spec.most_px):
        assert trunk(torch.rand(1, model.filters, side, side)).shape == (1, 3)


def test_one_more_row_is_trained_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    row = TrunkSpec(
        filters=lambda width: round(16 * width),
        least_px=1,
        most_px=64,
        weights=lambda _width, classes: 8 * classes,
        kept_values=lambda _width, height, wide: 8 * height * wide,
        make=lambda model, classes: Mean(model.filters, classes),
    )
    monkeypatch.setitem(TRUNKS, "mean", row)  # type: ignore[arg-type]
    model = ModelSettings(trunk="mean", width=0.5)
    assert model.filters == 8
    trunks = [build_trunk(model, 3, seed=1) for _ in range(2)]
    before = state_sha256(trunks[0])
    assert state_sha256(trunks[1]) == before
    losses = [
        TrunkTrainer(trunk, TrainingSettings(), 10).step(torch.ones(4, 8, 5, 5), torch.tensor([0, 1, 2, 0]))
        for trunk in trunks
    ]
    assert losses[0] == losses[1]
    assert state_sha256(trunks[0]) == state_sha256(trunks[1]) != before


def test_a_trunk_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="trunk = 'vgg17'; choose one of vgg16"):
        ModelSettings(trunk="vgg17")


def test_a_plan_is_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import mple.plan; print(mple.plan.ModelSettings(width=0.5).filters)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "32\n"
