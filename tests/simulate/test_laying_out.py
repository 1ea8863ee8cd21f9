"""A run folder holds the deployment's own configuration files, readable by the deployment's own reader."""

import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from mple.data import NpzSource, Partition, PartitionKind
from mple.plan import (
    ComputeSettings,
    CoordinatorSettings,
    SiteSettings,
    TrainingSettings,
    read_settings,
    settings_from,
)
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.rpc import TlsFiles
from mple.rpc.tls import split_address
from mple.simulate import laying_out
from mple.simulate.laying_out import free_addresses, lay_out
from mple.simulate.settings import MachineSettings, SimulationSettings


def test_each_rank_of_the_compute_node_has_an_address(tmp_path: Path) -> None:
    """Ports in a row, all of them free; its ranks share the threads; a relay may stand before each."""
    machine, asked = MachineSettings(trainer_threads=7), list[str]()

    def dialled(address: str) -> str:
        asked.append(address)
        return f"relay-{len(asked) - 1}:1"

    settings = SimulationSettings(training=TrainingSettings(ranks=3), machine=machine)
    folder = lay_out(tmp_path / "run", settings, dialled=dialled)
    compute = read_settings(ComputeSettings, folder.config(COMPUTE))
    port = split_address(compute.listen)[1]
    assert asked[1:] == [f"127.0.0.1:{port + rank}" for rank in range(3)]
    assert (compute.threads, compute.coordinator, folder.ranks) == (2, "relay-0:1", 3)
    for name in settings.sites:
        site = read_settings(SiteSettings, folder.config(name))
        assert (site.coordinator, site.compute_addresses) == ("relay-0:1", ("relay-1:1", "relay-2:1", "relay-3:1"))


def test_ports_in_a_row_are_all_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as taken:
        (first,) = free_addresses(1, each=4)
        port = split_address(first)[1]
        taken.enter_context(socket.create_server(("127.0.0.1", port + 2)))
        monkeypatch.setattr(laying_out, "_PORTS", range(port, port + 3))
        assert free_addresses(1, each=2) == [f"127.0.0.1:{port}"]
        with pytest.raises(ValueError, match="no 1 free ports"):
            free_addresses(1, each=9)


def test_every_node_has_a_configuration_that_its_command_reads(tmp_path: Path) -> None:
    settings = SimulationSettings(
        data=NpzSource(path=Path("set.npz"), partition=Partition(kind=PartitionKind.IID, seed=4)), least_count=2
    )
    folder = lay_out(tmp_path / "run", settings)
    coordinator = read_settings(CoordinatorSettings, folder.config(COORDINATOR))
    compute = read_settings(ComputeSettings, folder.config(COMPUTE))
    assert coordinator.run.sites == settings.sites
    assert compute.coordinator == coordinator.listen
    assert coordinator.listen != compute.listen
    for place, name in enumerate(settings.sites):
        site = read_settings(SiteSettings, folder.config(name))
        assert site.data.partition == Partition(kind=PartitionKind.IID, parts=3, part=place, seed=4)
        assert site.data.path is not None
        assert site.data.path.is_absolute()
        assert site.metrics.least_count == 2
        assert (site.compute, site.coordinator) == (compute.listen, coordinator.listen)
        assert (folder.node(name) / "tls" / "node.key").stat().st_mode & 0o077 == 0
    assert read_settings(SimulationSettings, folder.path / "simulation.toml") == replace(
        settings, data=replace(settings.data, path=Path("set.npz").resolve())
    )


def test_addresses_on_other_networks_stand_in_files_and_certificates(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "run", SimulationSettings(), listen=("10.9.0.1:7400", "10.9.0.2:7401"))
    assert read_settings(CoordinatorSettings, folder.config(COORDINATOR)).listen == "10.9.0.1:7400"
    assert read_settings(ComputeSettings, folder.config(COMPUTE)).listen == "10.9.0.2:7401"
    site = read_settings(SiteSettings, folder.config("north"))
    assert (site.coordinator, site.compute) == ("10.9.0.1:7400", "10.9.0.2:7401")
    pem = TlsFiles.in_directory(folder.node(COMPUTE) / "tls").certificate.read_bytes()
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = {str(host) for host in names.get_values_for_type(x509.IPAddress)}
    assert hosts == {"127.0.0.1", "10.9.0.1", "10.9.0.2"}


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        lay_out(tmp_path, SimulationSettings())
    assert (tmp_path / "kept").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"sites": ["north", "north"]}, "each once"),
        ({"sites": ["compute"]}, "another node"),
        ({"sites": ["North"]}, "lower-case"),
        ({"trainig": {}}, "did you mean training?"),
        ({"data": {"kind": "cifar10", "partition": {"kind": "iid", "parts": 5}}}, "leave it out"),
    ],
)
def test_settings_that_cannot_be_are_explained(raw: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        settings_from(SimulationSettings, raw)


def test_examples_are_simulations() -> None:
    for path in (Path(__file__).parents[2] / "examples").glob("*.toml"):
        assert read_settings(SimulationSettings, path).sites
