"""Lays out the folder of a simulated run: certificates, and one configuration per node."""

import contextlib
import random
import socket
from collections.abc import Callable
from pathlib import Path

from mple.disk.private import private_file
from mple.pki import throwaway
from mple.plan import (
    ComputeSettings,
    CoordinatorSettings,
    MonitoringSettings,
    RunSettings,
    SiteMetricSettings,
    SiteSettings,
    with_paths_from,
    write_settings,
)
from mple.records.run_folder import COMPUTE, COORDINATOR, SIMULATION, RunFolder, new_folder
from mple.rpc import Party, Role
from mple.rpc.tls import split_address
from mple.simulate.own_names import NAMES
from mple.simulate.settings import SimulationSettings

_LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 30_000)


def lay_out(
    path: Path,
    settings: SimulationSettings,
    *,
    run_id: str = "",
    listen: tuple[str, str] | None = None,
    dialled: Callable[[str], str] = lambda address: address,
) -> RunFolder:
    """Make the folder, a throw-away authority, and every node's certificate and configuration.

    The run's id is a new one where it is empty. `listen` holds the addresses of coordinator and compute node,
    "host:port", on whichever networks their processes will be; by default loopback with free ports. The ranks of a
    compute node listen at its port and those behind it. `dialled` gives the address at which nodes dial the one that
    listens at a given address, for a relay between them; it is asked for the coordinator's first, then for each rank's.

    Raises ValueError: the folder already holds something.
    """
    new_folder(path)
    settings = with_paths_from(settings, Path.cwd())  # the run's own files lie in other folders
    ranks = settings.training.ranks
    folder = RunFolder(path.resolve(), settings.sites, ranks)
    parties = [
        Party(settings.consortium, Role.COORDINATOR, COORDINATOR),
        Party(settings.consortium, Role.COMPUTE, COMPUTE),
        *(Party(settings.consortium, Role.SITE, site) for site in settings.sites),
    ]
    tls = [folder.node(party.name) / "tls" for party in parties]
    coordinator, compute = listen or free_addresses(2, each=ranks)
    hosts = {
        _LOOPBACK,
        "localhost",
        *NAMES.values(),
        *(split_address(address)[0] for address in (coordinator, compute)),
    }
    throwaway(folder.path / "authority", parties, sorted(hosts), tls)
    private_file(folder.path / SIMULATION).write_text(write_settings(settings), encoding="utf-8")
    to_coordinator, to_ranks = dialled(coordinator), tuple(map(dialled, addresses_of_ranks(compute, ranks)))
    configurations = {
        COORDINATOR: _coordinator(settings, coordinator, run_id),
        COMPUTE: _compute(settings, compute, to_coordinator),
        **{
            site: _site(settings, place, ranks=to_ranks, coordinator=to_coordinator)
            for place, site in enumerate(settings.sites)
        },
    }
    for name, configuration in configurations.items():
        private_file(folder.config(name)).write_text(write_settings(configuration), encoding="utf-8")
    return folder


def _coordinator(settings: SimulationSettings, listen: str, run_id: str) -> CoordinatorSettings:
    return CoordinatorSettings(
        listen=listen,
        state=Path("state"),
        tls=Path("tls"),
        run=RunSettings(sites=settings.sites, compute=COMPUTE, custody=settings.custody, run_id=run_id),
        threads=settings.machine.site_threads,
        monitoring=MonitoringSettings(listen=settings.monitoring.coordinator),
        **settings.sections(),
    )


def _compute(settings: SimulationSettings, listen: str, coordinator: str) -> ComputeSettings:
    return ComputeSettings(
        listen=listen,
        state=Path("state"),
        tls=Path("tls"),
        coordinator=coordinator,
        stem_file=settings.stem_file,
        weights_file=settings.weights_file,
        device=settings.machine.device,
        threads=settings.rank_threads,
        in_flight_samples=settings.machine.in_flight_samples,
        idle_timeout_s=settings.machine.idle_timeout_s,
        checkpoint_every_s=settings.machine.checkpoint_every_s,
        checkpoint_every_steps=settings.machine.checkpoint_every_steps,
        monitoring=MonitoringSettings(listen=settings.monitoring.compute),
    )


def _site(settings: SimulationSettings, place: int, *, ranks: tuple[str, ...], coordinator: str) -> SiteSettings:
    return SiteSettings(
        state=Path("state"),
        tls=Path("tls"),
        vault=Path("vault"),
        coordinator=coordinator,
        compute=ranks[0],
        compute_ranks=ranks[1:],
        data=settings.site_source(place),
        threads=settings.machine.site_threads,
        idle_timeout_s=settings.machine.idle_timeout_s,
        monitoring=MonitoringSettings(listen=settings.monitoring.sites[place] if settings.monitoring.sites else ""),
        metrics=SiteMetricSettings(least_count=settings.least_count),
        report=settings.report,
    )


def addresses_of_ranks(first: str, ranks: int) -> list[str]:
    """Where the ranks of a compute node listen, given the address of rank 0, "host:port"."""
    host, port = first.rpartition(":")[0], split_address(first)[1]
    return [f"{host}:{port + rank}" for rank in range(ranks)]


def free_addresses(count: int, *, each: int = 1) -> list[str]:
    """Loopback addresses with ports that are free now, each with so many free ports in a row, its own the first. Taken
    from below the range that outgoing connections are given, so that none of those takes one before its node listens;
    at random, so that simulations that start together don't choose alike."""
    found: list[str] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(_PORTS, len(_PORTS)):
            with contextlib.suppress(OSError), contextlib.ExitStack() as row:  # somebody listens there
                for one in range(port, port + each):
                    row.enter_context(socket.create_server((_LOOPBACK, one)))
                held.push(row.pop_all())
                found.append(f"{_LOOPBACK}:{port}")
            if len(found) == count:
                return found
    raise ValueError(f"no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on {_LOOPBACK}")
