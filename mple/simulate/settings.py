"""What a simulation is: a run's settings, a common data set and how it is split over the sites."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from mple.data import DataSource, PartitionKind
from mple.machine import usable_cores
from mple.metrics.settings import LeastCount
from mple.model.settings import DeviceName
from mple.plan import Custody, ReportSettings, RunChoices, settings_from
from mple.ranges import Between, OrNumber, Ranged, check_ranges
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.rpc import Party, Role

DEFAULT_DATA: Mapping[str, object] = MappingProxyType(
    {
        "kind": "cifar10",
        "most_train": 2667,
        "most_test": 667,
        "validation_share": 0.1,
        "partition": {"kind": "iid"},
    }
)
"""10,000 pictures of CIFAR-10 where there are three sites, as a `[data]` section."""


_MOST_ALONE = 16
"""Of more sites, several share a process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSettings(Ranged):
    """How the processes share this machine."""

    device: DeviceName = DeviceName.AUTO
    """What the compute node trains on: `cpu`, `cuda`, or `auto`, which is CUDA where torch finds a device."""
    trainer_threads: Annotated[int, Between(1)] = field(default_factory=usable_cores)
    """Threads of the compute node, which its ranks share; by default all cores that this process may use. A narrow
    network (an eighth of the width) trains faster with one, and so does any on a machine whose cores other programs
    keep busy."""
    site_threads: Annotated[int, Between(1)] = 1
    """Threads of each site. Several processes that spin on the same cores slow each other down many times over."""
    site_nice: Annotated[int, Between(0, 19)] = 0
    """How far sites and coordinator step back for the trainer, as the command `nice` counts. It gains the
    trainer little (0.2 s while samples come in, with three sites on two cores), and starves them where other programs
    use the machine, too."""
    site_processes: Annotated[int, Between(0)] = 0
    """Processes that the sites share, each site with its own certificate, vault, ledger and log. 0: one for each of up
    to 16 sites, of more as many as this process may use cores."""
    in_flight_samples: Annotated[int, Between(1)] = 2048
    """Most samples that are asked of one site and not yet answered."""
    idle_timeout_s: Annotated[float, Between(0, 1e9, above=True)] = 600.0
    """How long any node tries to reach a silent one before it gives up, in seconds."""
    checkpoint_every_s: Annotated[float, Between(0, 1e9)] = 60.0
    """Longest time of training that a restart of the compute node may have to do again, in seconds."""
    checkpoint_every_steps: Annotated[int, Between(1)] = 500
    """Most steps of training that a restart of the compute node may have to do again."""
    stop_grace_s: Annotated[float, Between(0, 1e9)] = 10.0
    """Time between asking a node to stop and killing it, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings:
    """Addresses of the nodes' Prometheus endpoints, as `[monitoring] listen` in their files; empty ones are not opened.
    Port 0 takes a free one, which the node's log names."""

    coordinator: str = ""
    """Of the coordinator."""
    compute: str = ""
    """Of the compute node."""
    sites: tuple[str, ...] = ()
    """One for each site in their order, or none at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationSettings(RunChoices):
    """File of `mple simulate`; every field has a default."""

    consortium: str = "simulation"
    """Its name, which stands in all certificates."""
    sites: Annotated[tuple[str, ...], OrNumber("site", 10_000)] = ("north", "east", "south")
    """Names of the hospitals. `sites = 200` is short for site-001 to site-200."""
    custody: Custody = Custody.SITE
    data: DataSource = field(default_factory=lambda: settings_from(DataSource, DEFAULT_DATA))
    """In a simulation this is the common set, by default, where there are three sites, 8,001 training pictures of
    CIFAR-10, a tenth of them for validation, and 2,001 test pictures. `partition.kind = "all"` means "iid" where there
    are several; limits are for each site."""
    stem_file: Path | None = None
    """Safetensors file that the compute node offers, for `model.stem = "offered"`."""
    weights_file: Path | None = None
    """File with a VGG-16's weights by torchvision's names, safetensors or `.pth`, or with the network of an earlier
    run, for `model.weights`."""
    least_count: LeastCount = 5
    """Of every site, as `[metrics] least_count` in its file."""
    machine: MachineSettings = field(default_factory=MachineSettings)
    monitoring: EndpointSettings = field(default_factory=EndpointSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        RunChoices.__post_init__(self)
        check_ranges(self)
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites = {list(self.sites)}; name one at least, each once")
        for name in self.sites:
            Party(self.consortium, Role.SITE, name)
            if name in (COORDINATOR, COMPUTE):
                raise ValueError(f"a site can't be named {name!r}: the simulation has another node of this name")
        if (self.stem_file is not None) != (self.model.stem == "offered"):
            found = f'model.stem = "{self.model.stem or "whitening"}", stem_file = {self.stem_file}'
            raise ValueError(f'{found}; a file goes with stem = "offered"')
        if (self.weights_file is not None) != self.model.from_file:
            raise ValueError(
                f'model.weights = "{self.model.weights}", weights_file = {self.weights_file}; a file goes with '
                'weights = "features" or "network"'
            )
        if len(self.monitoring.sites) not in (0, len(self.sites)):
            raise ValueError(
                f"monitoring.sites = {list(self.monitoring.sites)}, but there are {len(self.sites)} sites; name an "
                'address for each, "" for those without an endpoint'
            )
        parts = self.data.partition.parts
        if parts not in (1, len(self.sites)):
            raise ValueError(f"data.partition.parts = {parts}, but there are {len(self.sites)} sites; leave it out")

    @property
    def site_groups(self) -> tuple[tuple[str, ...], ...]:
        """The sites by the process that holds them, in their order, as evenly as can be."""
        few = len(self.sites) <= _MOST_ALONE
        wanted = self.machine.site_processes or (len(self.sites) if few else usable_cores())
        processes = min(wanted, len(self.sites))
        ends = [len(self.sites) * place // processes for place in range(processes + 1)]
        return tuple(self.sites[begin:end] for begin, end in pairwise(ends))

    @property
    def rank_threads(self) -> int:
        """Threads of each rank of the compute node: they share those of the trainer."""
        return max(1, self.machine.trainer_threads // self.training.ranks)

    def site_source(self, place: int) -> DataSource:
        """The part of the common set that the site at a place in `sites` takes."""
        partition = self.data.partition
        kind = PartitionKind.IID if partition.kind is PartitionKind.ALL else partition.kind
        if len(self.sites) == 1:
            return self.data
        return replace(self.data, partition=replace(partition, kind=kind, parts=len(self.sites), part=place))
