"""What a simulation lays out is a deployment: each node's own files, complete, and none of another's secrets."""

from __future__ import annotations

import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from mple.data import NpzSource, Partition, PartitionKind
from mple.plan import ComputeSettings, CoordinatorSettings, Custody, SiteSettings, read_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.rpc import Party, Role, TlsFiles, own_party
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import EndpointSettings, MachineSettings, SimulationSettings

SETTINGS = SimulationSettings(
    consortium="trial",
    sites=("north", "south"),
    custody=Custody.ESCROW,
    data=NpzSource(path=Path("set.npz"), partition=Partition(kind=PartitionKind.IID)),
    machine=MachineSettings(trainer_threads=3, site_threads=1, in_flight_samples=77, idle_timeout_s=5.0),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return lay_out(Path("runs/first"), SETTINGS)


def test_every_node_reads_its_own_configuration(folder: RunFolder) -> None:
    coordinator = read_settings(CoordinatorSettings, folder.config(COORDINATOR))
    compute = read_settings(ComputeSettings, folder.config(COMPUTE))
    sites = [read_settings(SiteSettings, folder.config(name)) for name in folder.sites]
    assert coordinator.run.sites == ("north", "south")
    assert coordinator.run.compute == COMPUTE
    assert coordinator.run.custody is Custody.ESCROW
    assert (coordinator.morph, coordinator.training, coordinator.model) == (
        SETTINGS.morph,
        SETTINGS.training,
        SETTINGS.model,
    )
    assert (compute.threads, compute.in_flight_samples, compute.idle_timeout_s) == (3, 77, 5.0)
    assert {compute.coordinator, *(site.coordinator for site in sites)} == {coordinator.listen}
    assert {site.compute for site in sites} == {compute.listen} != {coordinator.listen}
    assert [site.data.partition.part for site in sites] == [0, 1]
    assert all(site.threads == 1 for site in sites)


def test_endpoints_go_to_the_nodes_that_they_are_named_for(tmp_path: Path) -> None:
    endpoints = EndpointSettings(compute="127.0.0.1:9464", sites=("", "127.0.0.1:9466"))
    folder = lay_out(tmp_path / "run", replace(SETTINGS, monitoring=endpoints))
    coordinator = read_settings(CoordinatorSettings, folder.config(COORDINATOR))
    compute = read_settings(ComputeSettings, folder.config(COMPUTE))
    sites = [read_settings(SiteSettings, folder.config(name)) for name in folder.sites]
    assert (coordinator.monitoring.listen, compute.monitoring.listen) == ("", "127.0.0.1:9464")
    assert [site.monitoring.listen for site in sites] == ["", "127.0.0.1:9466"]


def test_nodes_keep_their_things_in_their_own_folders(folder: RunFolder) -> None:
    for name, kind in ((COORDINATOR, CoordinatorSettings), (COMPUTE, ComputeSettings), ("north", SiteSettings)):
        settings = read_settings(kind, folder.config(name))
        assert settings.state == folder.state(name)
        assert settings.tls == folder.node(name) / "tls"
    assert read_settings(SiteSettings, folder.config("north")).vault == folder.node("north") / "vault"


def test_the_data_is_where_it_was(folder: RunFolder, tmp_path: Path) -> None:
    assert read_settings(SiteSettings, folder.config("south")).data.path == tmp_path / "set.npz"
    again = read_settings(SimulationSettings, folder.path / "simulation.toml")
    assert again.data.path == tmp_path / "set.npz"
    assert again.sites == SETTINGS.sites


def test_certificates_say_who_each_node_is(folder: RunFolder) -> None:
    roles = {COORDINATOR: Role.COORDINATOR, COMPUTE: Role.COMPUTE, "north": Role.SITE, "south": Role.SITE}
    for name, role in roles.items():
        assert own_party(TlsFiles.in_directory(folder.node(name) / "tls"), role) == Party("trial", role, name)


def test_keys_are_for_their_owner_only(folder: RunFolder) -> None:
    keys = list(folder.path.rglob("*.key"))
    assert len(keys) == 5
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_ports_are_free_and_not_among_those_of_outgoing_connections(folder: RunFolder) -> None:
    listens = [
        read_settings(CoordinatorSettings, folder.config(COORDINATOR)).listen,
        read_settings(ComputeSettings, folder.config(COMPUTE)).listen,
    ]
    for listen in listens:
        host, port = listen.split(":")
        assert 20_000 <= int(port) < 30_000
        socket.create_server((host, int(port))).close()
