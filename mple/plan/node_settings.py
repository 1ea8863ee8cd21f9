"""The configuration file of each node, in simulation and deployment alike.

Paths are relative to the file's folder. `tls` is a folder with `ca.crt`, `node.crt` and `node.key`; the node's name,
role and consortium are those of its certificate and stand in no file. `state` is where a node keeps what it must not
forget: ledger, log, plan, layers, cache.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mple.data import DataSource
from mple.metrics.settings import LeastCount
from mple.model.settings import DeviceName
from mple.plan.settings import Custody, RunChoices
from mple.printable import require_name
from mple.ranges import Between, Ranged, check_ranges

_Seconds = Annotated[float, Between(0, 1e9, above=True)]
"""At most thirty years; the operating system can't wait for much longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """Who takes part."""

    sites: tuple[str, ...]
    """Names of all sites, in the order of the plan; the first draws the consortium secret in `site` custody."""
    compute: str = "compute"
    """Name of the compute node."""
    custody: Custody = Custody.SITE
    run_id: str = ""
    """Lower-case letters and digits, 1 to 63; drawn at random when empty. A run that is begun again under its old id,
    with the same vaults, is the same run bit for bit: its cores are the same ones."""

    def __post_init__(self) -> None:
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites = {list(self.sites)}; name one at least, each once")
        for name in (*self.sites, self.compute):
            require_name("name", name)
        if not re.fullmatch("[a-z0-9]{0,63}", self.run_id):
            raise ValueError(f"run_id = {self.run_id!r}; use 1 to 63 lower-case letters and digits, or leave it out")


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitoringSettings:
    """Section `[monitoring]` of any node's file."""

    listen: str = ""
    """Address and port of the node's Prometheus endpoint, for example "127.0.0.1:9464"; port 0 takes a free one, which
    the log names. Empty: none. It is plain HTTP and asks nobody who they are: keep it on loopback."""


@dataclass(frozen=True, kw_only=True)  # a coordinator's file has the slots of RunChoices
class NodeSettings(Ranged):
    """What the files of all nodes have."""

    state: Path
    """Folder for what the node must not forget; one process at a time."""
    tls: Path
    """Folder with `ca.crt`, `node.crt` and `node.key`."""
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinatorSettings(RunChoices, NodeSettings):
    """File of `mple-coordinator serve`."""

    listen: str
    """Address and port, for example "0.0.0.0:7400"."""
    run: RunSettings
    threads: Annotated[int, Between(1)] = 2
    """Threads for building and checking layers."""
    stay: bool = False
    """Go on serving after the run has ended, until stopped."""
    farewell_s: Annotated[float, Between(0, 1e9)] = 60.0
    """How long a party that was away when the run finished may take to come back and hear of it, in seconds."""

    def __post_init__(self) -> None:
        RunChoices.__post_init__(self)
        check_ranges(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSettings(NodeSettings):
    """File of `mple-compute serve`."""

    listen: str
    """Address and port, for example "0.0.0.0:7401"."""
    coordinator: str
    """Address and port of the coordinator."""
    stem_file: Path | None = None
    """Safetensors file with the first convolution, for `model.stem = "offered"`."""
    weights_file: Path | None = None
    """File with a VGG-16's weights by torchvision's names, safetensors or `.pth`, or with the network of an earlier
    run, for `model.weights`."""
    vault: Path | None = None
    """Folder with the key that the cache of samples is encrypted under, made at first use, open to its owner only; by
    default `vault` in the state folder, of each rank its own. On another disk than `state`, a copy of that one alone
    opens no sample."""
    vault_passphrase_file: Path | None = None
    """File with the vault's passphrase in its first line, open to its owner only; without one, and without the
    environment variable MPLE_VAULT_PASSPHRASE, file permission alone protects the vault."""
    device: DeviceName = DeviceName.AUTO
    """What it trains on: `cpu`, `cuda`, or `auto`, which is CUDA where torch finds a device. Of several ranks on a
    machine each has the device of its own number there."""
    threads: Annotated[int, Between(1)] = 2
    """Threads of the trainer."""
    in_flight_samples: Annotated[int, Between(1)] = 2048
    """Most samples that are asked of one site and not yet answered."""
    idle_timeout_s: _Seconds = 600.0
    """How long the node tries to reach a silent coordinator before it gives up, in seconds."""
    checkpoint_every_s: Annotated[float, Between(0, 1e9)] = 60.0
    """Longest time of training that a restart may have to do again, in seconds."""
    checkpoint_every_steps: Annotated[int, Between(1)] = 500
    """Most steps of training that a restart may have to do again."""
    stay: bool = False
    """Go on answering predictions after the run has ended, until stopped."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.stem_file is not None and self.weights_file is not None:
            raise ValueError("stem_file beside weights_file: the stem is that of the weights; leave stem_file out")

    @property
    def vault_folder(self) -> Path:
        """Of this rank."""
        return self.vault or self.state / "vault"


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePrivacySettings(Ranged):
    """What a site asks of a run's section `[privacy]` before it takes part."""

    most_budget_bits: Annotated[float, Between(0, above=True)] | None = None
    """The run must bound what leaves of a picture to so many bits at most; left out, any run will do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteMetricSettings(Ranged):
    """What a site tells of its validation and test pictures, of what a run's section `[metrics]` asks for."""

    least_count: LeastCount = 5
    """Nothing is told of fewer samples: a tally over fewer is withheld as a whole, and classes with fewer positives or
    negatives are left out of those by class, with others that would tell of them by a difference. With 1 all is
    told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSettings(Ranged):
    """What a site lets a run's page show of its own pictures."""

    sample_pictures: Annotated[int, Between(0, 64)] = 0
    """So many training pictures are kept in the clear, in the site's own state folder, and as many others as they
    travel; a page that is made where the folder is at hand shows both, and galleries of attacks on the site. They are
    legible: for pictures that are public."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSettings(NodeSettings):
    """File of `mple-provider run` and of `mple predict`."""

    vault: Path
    """Folder with the site's morph key and consortium secrets, made at first use, open to its owner only."""
    coordinator: str
    """Address and port of the coordinator."""
    compute: str
    """Address and port of the compute node."""
    data: DataSource
    compute_ranks: tuple[str, ...] = ()
    """Addresses and ports of the compute node's ranks 1, 2, ... where a run has several (`training.ranks`); `compute`
    is rank 0."""
    vault_passphrase_file: Path | None = None
    """File with the vault's passphrase in its first line, open to its owner only; without one, and without the
    environment variable MPLE_VAULT_PASSPHRASE, file permission alone protects the vault."""
    threads: Annotated[int, Between(1)] = 1
    """Threads for morphing."""
    idle_timeout_s: _Seconds = 600.0
    """How long the site tries to reach a silent party before it gives up, in seconds."""
    privacy: SitePrivacySettings = field(default_factory=SitePrivacySettings)
    metrics: SiteMetricSettings = field(default_factory=SiteMetricSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        check_ranges(self)
        twice = [one for one, times in Counter(self.compute_addresses).items() if times > 1]
        if twice:
            raise ValueError(
                f"compute_ranks = {list(self.compute_ranks)}, compute = {self.compute!r}: {twice[0]} stands there "
                "twice; each rank listens at an address of its own"
            )

    @property
    def compute_addresses(self) -> tuple[str, ...]:
        """Where the compute node's ranks listen, in their order."""
        return (self.compute, *self.compute_ranks)
