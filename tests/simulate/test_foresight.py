"""A simulation adds up the memory of all its processes before it starts any."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mple.machine import MemoryShortError
from mple.plan.memory import MIB
from mple.simulate.foresight import foreseen_memory
from mple.simulate.settings import MachineSettings, SimulationSettings
from tests.support.small_consortium import small_settings, write_pictures


@pytest.fixture
def settings(tmp_path: Path) -> SimulationSettings:
    return small_settings(write_pictures(tmp_path / "set.npz", train=60, test=12))


def bytes_of(settings: SimulationSettings, monkeypatch: pytest.MonkeyPatch) -> int:
    """The least memory with which the simulation is not refused, to a mebibyte."""
    low, high = 0, 2**20
    while high - low > 1:
        middle = (low + high) // 2
        monkeypatch.setattr("mple.machine.memory_bytes", lambda most=middle * MIB: most)
        try:
            foreseen_memory(settings)
            high = middle
        except MemoryShortError:
            low = middle
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: None)
    return high * MIB


def test_every_process_counts(settings: SimulationSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = bytes_of(settings, monkeypatch)
    sites = len(settings.sites)
    more = dataclasses.replace(settings, sites=(*settings.sites, "more"), data=settings.data)
    a_site = bytes_of(more, monkeypatch) - alone
    assert 120 * MIB < a_site < 240 * MIB
    together = dataclasses.replace(more, machine=MachineSettings(site_processes=1))
    assert bytes_of(together, monkeypatch) < alone + a_site - (sites - 1) * 90 * MIB
    ranks = dataclasses.replace(settings, training=dataclasses.replace(settings.training, ranks=3))
    assert bytes_of(ranks, monkeypatch) - alone > 2 * 400 * MIB


def test_what_it_takes_is_said_with_the_way_out(settings: SimulationSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    line = foreseen_memory(settings)
    assert line.startswith("this simulation will need about ") and "the compute node 4" in line
    monkeypatch.setattr("mple.simulate.foresight.available_bytes", lambda: 10 * MIB)
    assert "; 10 MiB are free now: end other programs, or name fewer sites" in foreseen_memory(settings)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 100 * MIB)
    with pytest.raises(MemoryShortError, match=r"this simulation, the coordinator .*needs .*100\.0 MiB; name fewer"):
        foreseen_memory(settings)


def test_pictures_that_are_not_here_or_unfit_are_left_to_the_sites(settings: SimulationSettings) -> None:
    gone = dataclasses.replace(settings.data, path=Path("nowhere.npz"))  # type: ignore[call-arg]
    assert foreseen_memory(dataclasses.replace(settings, data=gone)) == ""
