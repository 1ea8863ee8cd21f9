"""Federated averaging with Flower: a server and three sites as processes over gRPC, each behind a counting relay.

The network, its first weights, the frozen stem, the training step and the split over the sites are mple's own. What
crosses the wire are weights and batch norm's statistics, down and up in every round, instead of samples once an epoch.
Channels are plain gRPC without TLS, through Flower's `start_server` and `start_client`.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comparison.elsewhere.environment import Requirements, ensure_environment
from comparison.elsewhere.stepped import SteppedChildren
from mple.data import Cifar10Source, Dataset, DataSource, Partition, PartitionKind, open_source
from mple.meter.relay import CountingRelay
from mple.model.settings import Augment, Precision
from mple.model.weights import build_trunk
from mple.plan import ModelSettings, TrainingSettings
from mple.rpc.tls import split_address
from mple.simulate.laying_out import free_addresses

SYSTEM = "flower"
REQUIREMENTS = Requirements(
    name="flower",
    steps=(("torch==2.13.0",), ("flwr==1.41.0", "numpy==2.4.6", "safetensors==0.8.0", "pillow<14", "cattrs<27")),
)
_SERVER = "server"


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowerSettings:
    """A federation on CIFAR-10. Defaults are those of mple's example with all of it."""

    sites: tuple[str, ...] = ("north", "east", "south")
    rounds: int = 6
    """One local epoch each."""
    width: float = 1.0
    """Of VGG-16, 0.0625 to 1."""
    images: int | None = None
    """Training pictures of all sites together, in equal parts; None for all. Test pictures are always all 10,000."""
    batch: int = 128
    """Samples of a local step."""
    peak_lr: float = 0.1
    precision: Precision = Precision.BF16
    threads: int = 1
    """Of each process."""
    time_limit_s: float = 6 * 3600.0
    memory_limit_bytes: int = 20 * 2**30
    """Of all processes together."""

    def __post_init__(self) -> None:
        if len(self.sites) < 2 or len(set(self.sites)) != len(self.sites) or _SERVER in self.sites:
            raise ValueError(f"sites = {list(self.sites)}; name two at least, each once, none {_SERVER!r}")
        if self.rounds < 1 or self.threads < 1:
            raise ValueError(f"rounds = {self.rounds}, threads = {self.threads}; needs 1 or more of each")
        if self.images is not None and self.images < 2 * len(self.sites):
            raise ValueError(f"images = {self.images} for {len(self.sites)} sites; needs two for each")
        if self.time_limit_s <= 0 or self.memory_limit_bytes <= 0:
            raise ValueError("time_limit_s and memory_limit_bytes must be above 0")
        self.model()
        self.training()

    def model(self) -> ModelSettings:
        """Of an mple run with the same network."""
        return ModelSettings(width=self.width)

    def training(self) -> TrainingSettings:
        """Of each site, as the example has it; an epoch is a round."""
        return TrainingSettings(
            epochs=self.rounds,
            batch=self.batch,
            peak_lr=self.peak_lr,
            precision=self.precision,
            label_smoothing=0.2,
            augment=(Augment.SHIFT,),
        )

    def source(self, place: int) -> DataSource:
        """The pictures of the site at a place in `sites`, as `mple simulate` deals them out."""
        return Cifar10Source(
            partition=Partition(kind=PartitionKind.IID, parts=len(self.sites), part=place),
            most_train=None if self.images is None else self.images // len(self.sites),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowerRound:
    """One round."""

    number: int
    """From 1."""
    seconds: float
    """From the server's first byte to the averaged network; scoring is apart."""
    score_seconds: float
    up_bytes: int
    """From all sites to the server, as TCP carried them."""
    down_bytes: int
    loss: float
    """Mean over all samples while they were trained on."""
    test_accuracy: float
    """Of the averaged network on all test pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowerResult:
    """A federation's run."""

    settings: FlowerSettings
    train_images: tuple[int, ...]
    """Of each site."""
    test_images: int
    exchanged_bytes: int
    """Of one network's weights and statistics as float32."""
    setup_bytes: int
    """Both ways, before the first round: connections only."""
    rounds: tuple[FlowerRound, ...]
    up_bytes_by_site: tuple[int, ...]
    down_bytes_by_site: tuple[int, ...]
    server_peak_bytes: int
    site_peak_bytes: tuple[int, ...]
    packages: tuple[str, ...]
    system: str = SYSTEM
    state: str = "measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyCost:
    """What it took to come to an accuracy."""

    rounds: int
    seconds: float
    up_bytes: int
    down_bytes: int


def cost_of_accuracy(rounds: Sequence[FlowerRound], accuracy: float) -> AccuracyCost | None:
    """Rounds, training seconds and bytes until the test accuracy is first reached; None when it never was."""
    for count, reached in enumerate(rounds, 1):
        if reached.test_accuracy >= accuracy:
            until = rounds[:count]
            return AccuracyCost(
                rounds=count,
                seconds=sum(item.seconds for item in until),
                up_bytes=sum(item.up_bytes for item in until),
                down_bytes=sum(item.down_bytes for item in until),
            )
    return None


def measure_flower(settings: FlowerSettings, folder: Path) -> FlowerResult:
    """Run a federation.

    Args:
        settings: Which.
        folder: For what the processes are given and what they print.

    Raises Unavailable: flower can't be installed, failed, or passed a limit; DataError: CIFAR-10 is not there.
    """
    environment = ensure_environment(REQUIREMENTS)
    sites = [open_source(settings.source(place)) for place in range(len(settings.sites))]
    _hand_over(folder, settings, sites)
    (address,) = free_addresses(1)
    relays = {name: CountingRelay(*split_address(address)) for name in settings.sites}
    try:
        with SteppedChildren(
            folder,
            time_limit_s=settings.time_limit_s,
            memory_limit_bytes=settings.memory_limit_bytes,
            threads=settings.threads,
        ) as children:
            rounds, setup, done = _follow(children, environment.python, folder, settings, relays, address)
        up, down = zip(*((relay.bytes_up, relay.bytes_down) for relay in relays.values()), strict=True)
    finally:
        for relay in relays.values():
            relay.close()
    return FlowerResult(
        settings=settings,
        train_images=tuple(len(site.train) for site in sites),
        test_images=sum(len(site.test) for site in sites),
        exchanged_bytes=_exchanged_bytes(settings, len(sites[0].classes)),
        setup_bytes=setup,
        rounds=rounds,
        up_bytes_by_site=up,
        down_bytes_by_site=down,
        server_peak_bytes=done[_SERVER],
        site_peak_bytes=tuple(done[name] for name in settings.sites),
        packages=environment.packages,
    )


def _hand_over(folder: Path, settings: FlowerSettings, sites: Sequence[Dataset]) -> None:
    for name, site in zip(settings.sites, sites, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / "pixels.npy", site.train.pixels_NCHW, allow_pickle=False)
        np.save(folder / name / "labels.npy", site.train.labels, allow_pickle=False)
    test = [site.test for site in sites]
    np.save(folder / "test_pixels.npy", np.concatenate([part.pixels_NCHW for part in test]), allow_pickle=False)
    np.save(folder / "test_labels.npy", np.concatenate([part.labels for part in test]), allow_pickle=False)
    training = dataclasses.asdict(settings.training())
    run = {
        "sites": settings.sites,
        "rounds": settings.rounds,
        "threads": settings.threads,
        "classes": len(sites[0].classes),
        "width": settings.width,
        "training": {name: value for name, value in training.items() if value is not None},
    }
    (folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")


def _follow(
    children: SteppedChildren,
    python: Path,
    folder: Path,
    settings: FlowerSettings,
    relays: dict[str, CountingRelay],
    address: str,
) -> tuple[tuple[FlowerRound, ...], int, dict[str, int]]:
    """Start all, follow the rounds; the rounds, the bytes before them and the processes' peaks of memory."""
    environment = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(folder / "flower_home")}
    children.start_module(_SERVER, python, f"{__package__}.flower_server", folder, address, environment=environment)
    for name, relay in relays.items():
        arguments = (folder, name, relay.address)
        children.start_module(name, python, f"{__package__}.flower_site", *arguments, environment=environment)
    children.step_ends()
    children.go_on()
    children.step_ends([_SERVER])
    setup = before = _carried(relays)
    rounds = []
    for number in range(1, settings.rounds + 1):
        children.go_on([_SERVER])
        said = children.step_ends([_SERVER])[_SERVER]
        after = _carried(relays)
        rounds.append(
            FlowerRound(
                number=number,
                seconds=said.real("seconds"),
                score_seconds=said.real("score_seconds"),
                up_bytes=after[0] - before[0],
                down_bytes=after[1] - before[1],
                loss=said.real("loss"),
                test_accuracy=said.real("test_accuracy"),
            )
        )
        before = after
    children.go_on([_SERVER])
    done = children.step_ends()
    children.go_on()
    children.end()
    return tuple(rounds), sum(setup), {name: int(said.real("peak_bytes")) for name, said in done.items()}


def _carried(relays: dict[str, CountingRelay]) -> tuple[int, int]:
    return sum(relay.bytes_up for relay in relays.values()), sum(relay.bytes_down for relay in relays.values())


def _exchanged_bytes(settings: FlowerSettings, classes: int) -> int:
    trunk = build_trunk(ModelSettings(width=settings.width), classes, settings.training().seed)
    return sum(4 * tensor.numel() for tensor in trunk.state_dict().values() if tensor.is_floating_point())
