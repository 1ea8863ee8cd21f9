"""A small consortium for tests with real processes: pictures that a narrow network can learn, and its settings."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from mple.data import NpzSource, Partition, PartitionKind
from mple.exit_codes import ExitCode
from mple.plan import (
    Custody,
    DeliverTo,
    DeliverySettings,
    ModelSettings,
    MorphSettings,
    TrainingSettings,
    WeightsFrom,
    WireSettings,
)
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.state_files import METRICS
from mple.simulate.children import Children, command, ranks_command
from mple.simulate.settings import MachineSettings, SimulationSettings
from tests.support.torchvision_vgg16 import TorchvisionVgg16, lived_in

CLASSES = 4
WEIGHTS = "vgg16_bn.safetensors"


def write_pictures(path: Path, *, train: int = 240, test: int = 60, side: int = 28, channels: int = 3) -> Path:
    """An .npz of soft blobs in four classes: neighbours are alike, as in real pictures."""
    generator = np.random.Generator(np.random.PCG64(7))
    labels = generator.integers(0, CLASSES, train + test)
    grid = np.linspace(-1, 1, side)
    centre_x, centre_y = np.cos(labels * np.pi / 2) * 0.4, np.sin(labels * np.pi / 2) * 0.4
    down_NH, right_NW = grid - centre_y[:, None], grid - centre_x[:, None]
    blob = np.exp(-4 * (down_NH[:, :, None] ** 2 + right_NW[:, None, :] ** 2))
    tint = generator.uniform(0.4, 1.0, (train + test, 1, 1, channels))
    noise = generator.normal(0, 12, (train + test, side, side, channels))
    pixels = np.clip(blob[..., None] * tint * 200 + 30 + noise, 0, 255).astype(np.uint8)
    np.savez(path, x_train=pixels[:train], y_train=labels[:train], x_test=pixels[train:], y_test=labels[train:])
    return path


def write_weights(folder: Path) -> Path:
    """A file of torchvision's names for coloured pictures, with a last layer for the classes of `write_pictures`."""
    path = folder / WEIGHTS
    save_file(lived_in(TorchvisionVgg16(batch_norm=True, width=0.0625, classes=CLASSES)).state_dict(), path)
    return path


def small_settings(
    pictures: Path,
    *,
    custody: Custody = Custody.SITE,
    preset: str = "compact",
    codec: str = "f32",
    epochs: int = 2,
    sites: tuple[str, ...] = ("north", "south"),
    weights: WeightsFrom = WeightsFrom.SEED,
    deliver: DeliverTo = DeliverTo.NONE,
    most_val: int = 0,
) -> SimulationSettings:
    """Two sites, a VGG-16 of 1/16 width, ten steps an epoch, nine with `most_val` validation pictures for each site,
    which are taken from a tenth of the training pictures. Weights that are not the seed's are those of
    `write_weights` beside the pictures. Delivery costs each site half a second of imports: tests ask for it."""
    return SimulationSettings(
        sites=sites,
        custody=custody,
        data=NpzSource(
            path=pictures,
            partition=Partition(kind=PartitionKind.IID),
            validation_share=0.1 if most_val else 0.0,
            most_val=most_val or None,
        ),
        morph=MorphSettings(preset=preset),
        wire=WireSettings(codec=codec, layer="f32" if codec == "f32" else "f16"),
        model=ModelSettings(width=0.0625, weights=weights),
        weights_file=None if weights is WeightsFrom.SEED else pictures.with_name(WEIGHTS),
        delivery=DeliverySettings(to=deliver),
        # Gentle: float32 training lets any rounding grow, that of plain features too, the faster the steeper it goes.
        training=TrainingSettings(epochs=epochs, batch=24, peak_lr=0.0001),
        machine=MachineSettings(trainer_threads=1, idle_timeout_s=60.0, stop_grace_s=5.0),
    )


def node_command(folder: RunFolder, name: str, *more: str) -> list[str]:
    """How one node of a laid-out folder is started, with more arguments at the end."""
    programs = {COORDINATOR: ("mple-coordinator", "serve"), COMPUTE: ("mple-compute", "serve")}
    program, verb = programs.get(name, ("mple-provider", "run"))
    ranked = name == COMPUTE and folder.ranks > 1
    whole = ranks_command(folder.ranks, restarts=0) if ranked else command(program)
    return [*whole, verb, str(folder.config(name)), *more]


def start_node(children: Children, folder: RunFolder, name: str, *more: str) -> None:
    """Start one node of a laid-out folder by its own command, with more arguments at the end."""
    children.start(name, node_command(folder, name, *more), log_text=folder.log_text(name), threads=1)


def wait_for_end(children: Children, names: set[str], timeout_s: float = 60.0) -> dict[str, int]:
    """Exit codes of these children once they have ended."""
    codes: dict[str, int] = {}
    give_up_at = time.monotonic() + timeout_s
    while not names <= set(codes):
        assert time.monotonic() < give_up_at, f"still running: {names - set(codes)}"
        codes |= {item.name: item.code for item in children.ended()}
        time.sleep(0.1)
    return codes


def wait_for_text(path: Path, text: str, timeout_s: float = 60.0) -> None:
    """Return once a file says something."""
    give_up_at = time.monotonic() + timeout_s
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < give_up_at, f"{path} does not say {text!r}"
        time.sleep(0.1)


def wait_until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return once something holds."""
    give_up_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up_at, "it never came about"
        time.sleep(0.05)


def epochs_done(folder: RunFolder) -> int:
    """Epochs that the compute node has scored."""
    path = folder.state(COMPUTE) / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return sum('"kind": "epoch"' in line for line in lines)


def predicted(folder: RunFolder, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`mple-provider predict` as the first site types it."""
    typed = [*command("mple-provider"), "predict", str(folder.config(folder.sites[0])), *map(str, arguments)]
    return subprocess.run(typed, check=False, capture_output=True, text=True, timeout=90)


def answer_on(folder: RunFolder, picture: Path) -> dict[str, object]:
    """What the first site is told of a picture."""
    done = predicted(folder, picture, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told
