"""What a simulation is: a run's settings, a common data set and how it is split over the sites."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from mple.data import DataSource, Partition, PartitionKind, SourceKind
from mple.plan import (
    Custody,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    TrainingSettings,
    WireSettings,
)
from mple.rpc import Party, Role

COORDINATOR, COMPUTE = "office", "compute"


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSettings:
    """How the processes share this machine."""

    trainer_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of the compute node; all cores by default."""
    site_threads: int = 1
    """Threads of each site. Several processes that spin on the same cores slow each other down many times over."""
    in_flight_samples: int = 2048
    """Most samples that are asked of one site and not yet answered."""
    idle_timeout_s: float = 600.0
    """How long any node waits without progress."""
    stop_grace_s: float = 10.0
    """Time between asking a node to stop and killing it."""

    def __post_init__(self) -> None:
        if self.trainer_threads < 1 or self.site_threads < 1 or self.stop_grace_s < 0:
            raise ValueError("trainer_threads and site_threads must be 1 or more, stop_grace_s 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationSettings:
    """File of `mple simulate`; every field has a default."""

    consortium: str = "simulation"
    sites: tuple[str, ...] = ("north", "east", "south")
    """Names of the hospitals."""
    custody: Custody = Custody.SITE
    data: DataSource = field(
        default_factory=lambda: DataSource(kind=SourceKind.CIFAR10, partition=Partition(kind=PartitionKind.IID))
    )
    """The common set. `partition.kind = "all"` means "iid" where there are several sites; limits are per site."""
    morph: MorphSettings = field(default_factory=MorphSettings)
    wire: WireSettings = field(default_factory=WireSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    def __post_init__(self) -> None:
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites = {list(self.sites)}; name one at least, each once")
        for name in self.sites:
            Party(self.consortium, Role.SITE, name)
            if name in (COORDINATOR, COMPUTE):
                raise ValueError(f"a site can't be named {name!r}: the simulation has another node of this name")
        parts = self.data.partition.parts
        if parts not in (1, len(self.sites)):
            raise ValueError(f"data.partition.parts = {parts}, but there are {len(self.sites)} sites; leave it out")

    def site_source(self, place: int) -> DataSource:
        """The part of the common set that the site at a place in `sites` takes."""
        partition = self.data.partition
        kind = PartitionKind.IID if partition.kind is PartitionKind.ALL else partition.kind
        if len(self.sites) == 1:
            return self.data
        return replace(self.data, partition=replace(partition, kind=kind, parts=len(self.sites), part=place))
