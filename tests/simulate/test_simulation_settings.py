"""The file of `mple simulate`: what is understood by default, what is refused, and each site's part of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mple.data import Cifar10Source, PartitionKind, open_source
from mple.machine import usable_cores
from mple.plan import SettingsError, read_settings, settings_from, write_settings
from mple.records.run_folder import RunFolder
from mple.simulate.processes import processes_of
from mple.simulate.settings import MachineSettings, SimulationSettings


def refused(*overrides: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        settings_from(SimulationSettings, {}, overrides)
    return str(refusal.value)


def test_by_default_three_hospitals_share_some_of_cifar10() -> None:
    settings = SimulationSettings()
    assert settings.sites == ("north", "east", "south")
    assert isinstance(settings.data, Cifar10Source)
    assert settings.data.partition.kind is PartitionKind.IID
    assert len(settings.sites) * (settings.data.most_train or 0) == 8001


def test_the_trainer_gets_all_cores_that_there_are() -> None:
    assert MachineSettings().trainer_threads == usable_cores() >= 1


def test_each_site_takes_its_own_part() -> None:
    settings = SimulationSettings()
    partitions = [settings.site_source(place).partition for place in range(3)]
    assert [(partition.parts, partition.part) for partition in partitions] == [(3, 0), (3, 1), (3, 2)]
    assert len({partition.seed for partition in partitions}) == 1


def test_a_set_that_is_not_split_is_shared_evenly(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    pixels = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(path, x_train=pixels, y_train=np.arange(10) % 2, x_test=pixels[:4], y_test=[0, 1, 0, 1])
    raw = {"sites": ["a", "b"], "data": {"kind": "npz", "path": str(path)}}
    settings = settings_from(SimulationSettings, raw)
    parts = [open_source(settings.site_source(place)).train.pixels_NCHW[:, 0, 0, 0].tolist() for place in range(2)]
    assert [len(part) for part in parts] == [5, 5]
    assert sorted(parts[0] + parts[1]) == list(range(10))


def test_one_hospital_has_everything() -> None:
    settings = settings_from(SimulationSettings, {"sites": ["only"], "data": {"kind": "cifar10"}})
    assert settings.site_source(0).partition.kind is PartitionKind.ALL


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("sites=[]", "one at least"),
        ('sites=["coordinator"]', "coordinator"),
        ("machine.trainer_threads=0", "trainer_threads"),
        ("machine.stop_grace_s=-1", "stop_grace_s"),
        ("custody=nobody", "escrow"),
        ("model.stem=offered", "stem_file"),
        ("stem_file=stem.safetensors", "stem_file"),
        ("model.weights=features", "weights_file"),
        ("weights_file=vgg16.pth", 'weights = "features" or "network"'),
    ],
)
def test_what_is_refused_is_named(override: str, named: str) -> None:
    assert named in refused(override)


def test_the_effective_settings_read_back_as_they_were(tmp_path: Path) -> None:
    settings = settings_from(
        SimulationSettings, {}, ["custody=escrow", "training.precision=bf16", "wire.codec=f16", "morph.preset=distinct"]
    )
    path = tmp_path / "simulation.toml"
    path.write_text(write_settings(settings), encoding="utf-8")
    assert read_settings(SimulationSettings, path) == settings


def test_a_number_of_sites_names_them_in_turn() -> None:
    settings = settings_from(SimulationSettings, {}, ["sites=200"])
    assert settings.sites[:2] == ("site-001", "site-002")
    assert (len(set(settings.sites)), settings.sites[-1]) == (200, "site-200")
    assert settings_from(SimulationSettings, {}, ["sites=1000"]).sites[0] == "site-0001", "they sort as they count"
    assert len(settings_from(SimulationSettings, {}, ["sites=1"]).sites) == 1
    for wrong in ("0", "-3", "10001"):
        assert f"sites = {wrong}; a number of names is 1 to 10000" in refused(f"sites={wrong}")
    assert "sites = True is not a list" in refused("sites=true")


def groups(sites: int, processes: int) -> list[int]:
    overrides = [f"sites={sites}", f"machine.site_processes={processes}"]
    settings = settings_from(SimulationSettings, {}, overrides)
    assert sum(settings.site_groups, ()) == settings.sites
    return [len(group) for group in settings.site_groups]


def test_up_to_sixteen_sites_have_a_process_each_and_more_share_one_a_core() -> None:
    assert groups(3, 0) == [1, 1, 1]
    assert groups(16, 0) == [1] * 16
    many = groups(200, 0)
    assert (sum(many), len(many)) == (200, usable_cores())
    assert max(many) - min(many) <= 1


def test_the_sites_of_a_simulation_share_as_many_processes_as_it_says() -> None:
    assert groups(3, 1) == [3]
    assert groups(5, 2) == [2, 3]
    assert groups(2, 7) == [1, 1]


def test_a_process_of_several_sites_is_called_after_the_first_and_the_last(tmp_path: Path) -> None:
    settings = settings_from(SimulationSettings, {}, ['sites=["a","b","c"]', "machine.site_processes=2"])
    folder = RunFolder(tmp_path, settings.sites)
    processes = processes_of(settings)
    assert [process.name for process in processes] == ["coordinator", "compute", "a", "b..c"]
    logs = [process.log_text(folder).relative_to(tmp_path / "nodes").as_posix() for process in processes]
    assert logs == ["coordinator/log.txt", "compute/log.txt", "a/log.txt", "b..c.txt"]
