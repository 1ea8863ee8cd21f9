"""A federation's settings, its split of the pictures, and what an accuracy cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from comparison.elsewhere import flower
from comparison.elsewhere.environment import Requirements
from comparison.elsewhere.flower import AccuracyCost, FlowerRound, FlowerSettings, cost_of_accuracy, measure_flower
from comparison.elsewhere.unavailable import Reason, Unavailable
from mple.plan import ModelSettings
from mple.plan.reader import read_settings
from mple.simulate.settings import SimulationSettings

EXAMPLE = Path(__file__).parents[3] / "examples" / "cifar10.toml"


def example() -> SimulationSettings:
    return read_settings(SimulationSettings, EXAMPLE)


def test_the_split_and_the_training_are_those_of_the_example() -> None:
    ours, theirs = example(), FlowerSettings()
    assert [theirs.source(place) for place in range(3)] == [ours.site_source(place) for place in range(3)]
    assert theirs.sites == ours.sites
    assert theirs.training() == ours.training
    assert theirs.model() == ours.model == ModelSettings()


def test_images_are_dealt_out_in_equal_parts() -> None:
    assert [FlowerSettings(images=3000).source(place).most_train for place in range(3)] == [1000] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"sites": ("north",)},
        {"sites": ("north", "north")},
        {"sites": ("north", "server")},
        {"rounds": 0},
        {"width": 2.0},
        {"images": 5},
        {"batch": 1},
        {"peak_lr": 0.0},
        {"threads": 0},
        {"time_limit_s": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"sites|rounds|width|images|batch|peak_lr|threads|time_limit_s"):
        FlowerSettings(**wrong)  # type: ignore[arg-type]


def a_round(number: int, accuracy: float) -> FlowerRound:
    return FlowerRound(
        number=number,
        seconds=10.0,
        score_seconds=1.0,
        up_bytes=100 + number,
        down_bytes=200,
        loss=1.0,
        test_accuracy=accuracy,
    )


def test_an_accuracy_costs_all_rounds_until_it_is_first_reached() -> None:
    rounds = [a_round(1, 0.4), a_round(2, 0.6), a_round(3, 0.5)]
    assert cost_of_accuracy(rounds, 0.5) == AccuracyCost(rounds=2, seconds=20.0, up_bytes=203, down_bytes=400)
    assert cost_of_accuracy(rounds, 0.61) is None


def test_without_its_environment_it_is_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(wanted: Requirements) -> NoReturn:
        raise Unavailable(Reason.NO_NETWORK, wanted.name)

    monkeypatch.setattr(flower, "ensure_environment", no_network)
    with pytest.raises(Unavailable, match="flower") as fault:
        measure_flower(FlowerSettings(width=0.25, rounds=1), tmp_path)
    assert fault.value.reason is Reason.NO_NETWORK
    assert list(tmp_path.iterdir()) == []


IMPORTED = """
import sys, types
flower = {name: types.ModuleType(name) for name in ("flwr", "flwr.client")}
flower["flwr"].client, flower["flwr.client"].NumPyClient = flower["flwr.client"], object
sys.modules |= flower
import comparison.elsewhere.flower_site
files = {name.partition(".")[0]: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(" ".join(name for name, path in files.items() if path and "site-packages" in path))
"""
THERE = {"PIL", "_cffi_backend", "attr", "attrs", "cattrs", "cryptography", "numpy", "safetensors", "torch", "torchgen"}
"""Packages of Flower's environment that a site's program may need."""


def test_what_a_site_imports_of_ours_needs_only_what_its_environment_has() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) <= THERE | {"_distutils_hack", "typing_extensions"}
