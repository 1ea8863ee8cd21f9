"""What first weights from a file are worth: accuracy after the first epoch, against a network drawn from the seed.

    python -m benchmarks.initial_weights [--mri brain_mri_64.npz] [--seeds 1 2 3] [--width 0.5] [--pictures 2000]
        [--mri-pictures 600] [--test 600] [--before 6000] [--before-epochs 4] [--workers 2]
        [--work runs/initial_weights] [--out results/benchmarks]

A VGG-16 is trained by `mple plain` on five classes of CIFAR-10, and written as a file of torchvision's `vgg16_bn`
names. Then `mple plain` trains for one epoch on pictures of the other five classes, and on grey slices where `--mri`
names a set: from the seed, and from the file with the settings that stand in `_WAYS`. Trainings that the work folder
already holds are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from safetensors.numpy import load_file

from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, LabelledImages, open_source
from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import plain_network
from mple.delivered.tensor_file import network_to_safetensors
from mple.model.settings import ModelSettings, TaskKind
from mple.model.stem import planned_stem
from mple.simulate.children import command, tied

mpl.use("Agg")
from matplotlib import pyplot as plt

_FIRST, _OTHER = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
"""Classes of CIFAR-10: aeroplane, car, bird, cat, deer; dog, frog, horse, ship, lorry."""
_WAYS: dict[str, dict[str, object]] = {
    "seed": {},
    "file": {"model.weights": "features"},
    "file, two stages frozen": {
        "model.weights": "features",
        "training.features_lr": 0.1,
        "training.frozen_stages": 2,
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Training:
    """One training of `mple plain`."""

    data: str
    way: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """The same training by all seeds."""

    data: str
    way: str
    test_accuracy: list[float]


def main() -> None:
    """Run what is missing and write `initial_weights.json` and `initial_weights.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mri", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--mri-pictures", type=int, default=600)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--before", type=int, default=6000)
    parser.add_argument("--before-epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/initial_weights"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    whole = open_source(Cifar10Source())
    for name, classes in (("first", _FIRST), ("other", _OTHER)):
        _write_classes(options.work / f"{name}.npz", whole.train, whole.test, classes)
    weights = _trained_before(options)
    sets = {"CIFAR-10, the other five classes": (options.work / "other.npz", options.pictures)}
    if options.mri is not None:
        sets[f"grey slices ({options.mri.stem})"] = (options.mri, options.mri_pictures)
    trainings = [_Training(data=data, way=way, seed=seed) for data in sets for seed in options.seeds for way in _WAYS]

    def accuracy(one: _Training) -> float:
        path, pictures = sets[one.data]
        out = options.work / f"{path.stem}-{options.width:g}-{pictures}-{list(_WAYS).index(one.way)}-{one.seed}"
        chosen: dict[str, object] = {**_WAYS[one.way], "training.epochs": 1, "training.seed": one.seed}
        chosen |= {"data.most_train": pictures, "data.most_test": options.test}
        if "model.weights" in chosen:
            chosen["weights_file"] = weights.resolve()
        found = _plain(out, path, options.width, chosen)
        print(f"{one.data}, {one.way}, seed {one.seed}: {found:.4f}", flush=True)
        return found

    with ThreadPoolExecutor(options.workers) as workers:
        accuracies = list(workers.map(accuracy, trainings))
    _write(trainings, accuracies, options)


def _write_classes(path: Path, train: LabelledImages, test: LabelledImages, classes: tuple[int, ...]) -> None:
    if path.exists():
        return
    arrays = {}
    for name, split in (("train", train), ("test", test)):
        taken = np.flatnonzero(np.isin(split.labels, classes))
        arrays[f"x_{name}"] = split.pixels_NCHW[taken].transpose(0, 2, 3, 1)
        arrays[f"y_{name}"] = split.labels[taken] - min(classes)
    np.savez(path, **arrays)


def _trained_before(options: argparse.Namespace) -> Path:
    """The file of weights."""
    out = options.work / f"before-{options.width:g}-{options.before}-{options.before_epochs}"
    chosen: dict[str, object] = {"training.epochs": options.before_epochs, "data.most_train": options.before}
    chosen["data.most_test"] = options.test
    found = _plain(out, options.work / "first.npz", options.width, chosen)
    print(f"CIFAR-10, five classes, for the file: {found:.4f}", flush=True)
    model = ModelSettings(width=options.width)
    about = NetworkAbout(
        task=TaskKind.CLASSES,
        classes=tuple(map(str, _FIRST)),
        channels=3,
        height=32,
        width=32,
        mean=(0.5,),
        std=(0.25,),
        model_width=options.width,
        kernel=model.kernel,
        run_id="before",
        plan_sha256="",
        model_sha256="",
        epoch=options.before_epochs,
    )
    stem = planned_stem(model, filters=model.filters, channels=3)
    orders = np.arange(model.filters), np.arange(len(_FIRST))
    network = plain_network(about, load_file(out / "model.safetensors"), stem.kernels_FCpp, *orders)
    path: Path = out / "vgg16_bn.safetensors"
    path.write_bytes(network_to_safetensors(network, about))
    return path


def _plain(out: Path, data: Path, width: float, chosen: dict[str, object]) -> float:
    """The test accuracy of a plain training that is in `out`, or made there."""
    settings: dict[str, object] = {
        "sites": '["only"]',
        "data.kind": "npz",
        "data.path": data.resolve(),
        "model.width": width,
        "training.batch": 64,
        "training.peak_lr": 0.05,
        "training.precision": "bf16",
        "machine.trainer_threads": 1,
        **chosen,
    }
    if not (out / "summary.json").exists():
        words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        typed = [*command("mple"), "plain", "--out", str(out), *words]
        subprocess.run(tied(typed), check=True, env=environment, stdout=subprocess.DEVNULL)
    return float(json.loads((out / "summary.json").read_text(encoding="utf-8"))["test_accuracy"])


def _write(trainings: list[_Training], accuracies: list[float], options: argparse.Namespace) -> None:
    rows: list[_Row] = []
    for data in dict.fromkeys(one.data for one in trainings):
        for way in _WAYS:
            pairs = zip(trainings, accuracies, strict=True)
            some = [value for one, value in pairs if (one.data, one.way) == (data, way)]
            rows.append(_Row(data=data, way=way, test_accuracy=some))
            print(f"{data}, {way}: {statistics.fmean(some):.4f} ({min(some):.4f} to {max(some):.4f})")
    typed = f"--width {options.width:g} --pictures {options.pictures} --test {options.test} --before {options.before}"
    if options.mri is not None:
        typed += f" --mri {options.mri.name} --mri-pictures {options.mri_pictures}"
    about = {
        "command": f"python -m benchmarks.initial_weights {typed} --before-epochs {options.before_epochs}",
        "machine": machine(),
        "seeds": options.seeds,
        "settings": _WAYS,
        "trainings": [asdict(row) for row in rows],
    }
    (options.out / "initial_weights.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    _plot(rows, options.out / "initial_weights.png")


def _plot(rows: list[_Row], path: Path) -> None:
    sets = list(dict.fromkeys(row.data for row in rows))
    figure, axes = plt.subplots(1, len(sets), figsize=(4.4 * len(sets), 3.4), layout="constrained", squeeze=False)
    for axis, data in zip(axes[0], sets, strict=True):
        for place, way in enumerate(_WAYS):
            values = [100 * value for row in rows if (row.data, row.way) == (data, way) for value in row.test_accuracy]
            axis.plot([place] * len(values), values, "o", color="#4477aa", markersize=4, alpha=0.6)
            axis.plot(place, statistics.fmean(values), "_", color="#aa3377", markersize=18, markeredgewidth=2)
        axis.set_title(data, fontsize=9)
        axis.set_xticks(range(len(_WAYS)), list(_WAYS), fontsize=8)
        axis.set_ylabel("test accuracy after one epoch, %")
        axis.margins(x=0.2, y=0.2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
