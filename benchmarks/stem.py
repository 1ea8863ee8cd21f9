"""How soon a network learns: stems, kernel sides and recipes, accuracy after each epoch, by seed.

    python -m benchmarks.stem [--ways "seed, he" ...] [--seeds 1 2 3] [--width 0.25] [--pictures 15000] [--test 10000]
        [--epochs 6] [--levels 0.6 0.7] [--work runs/stem] [--out results/benchmarks]

Plain trainings on CIFAR-10, one after the other, in this process: those of `examples/cifar10.toml` but for size and for
what `WAYS` changes. `--levels` are accuracies of which the epochs that it took to them are told, between two epochs by
a straight line. Trainings that the work folder already holds are not repeated. Threads are torch's: set
OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, Dataset, open_source
from mple.model.settings import Augment, Keep, ModelSettings, Precision, TrainingSettings
from mple.plan import RunChoices
from mple.simulate.plain_training import PlainSettings, train_plain

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """What a row changes."""

    model: Mapping[str, Any]
    training: Mapping[str, Any]


_SEED, _SMOOTH = {"stem": "seed", "init": "he"}, {"label_smoothing": 0.2}
WAYS: Mapping[str, Way] = {
    "seed, he": Way(model=_SEED, training={}),
    "whitening, he": Way(model={"init": "he"}, training={}),
    "whitening": Way(model={}, training={}),
    "whitening, smoothed": Way(model={}, training=_SMOOTH),
    "seed, smoothed": Way(model={"stem": "seed"}, training=_SMOOTH),
    "whitening 5 px, smoothed": Way(model={"kernel": 5}, training=_SMOOTH),
    "whitening 7 px, smoothed": Way(model={"kernel": 7}, training=_SMOOTH),
    "whitening, smoothed, rate 0.2": Way(model={}, training={**_SMOOTH, "peak_lr": 0.2}),
    "whitening, smoothed, batch 64": Way(model={}, training={**_SMOOTH, "batch": 64}),
    "whitening, smoothed, mirrored": Way(
        model={"stem_mirrored": True}, training={**_SMOOTH, "augment": (Augment.SHIFT, Augment.MIRROR)}
    ),
}
"""Rows by name; where it is not said, first weights are those of `init = "identity"`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training's figures."""

    way: str
    seed: int
    losses: list[float]
    """Mean of each epoch."""
    accuracies: list[float]
    """On test pictures, after each epoch."""
    seconds: float


def main() -> None:
    """Run what is missing and write `stem.json` and `stem.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--pictures", type=int, default=15_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--levels", nargs="*", type=float, default=[0.6, 0.7])
    parser.add_argument("--work", type=Path, default=Path("runs/stem"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    whole = open_source(Cifar10Source(most_train=options.pictures, most_test=options.test))
    data = replace(whole, val=whole.test)
    made = [_training(data, way, seed, options) for seed in options.seeds for way in options.ways]
    options.out.mkdir(parents=True, exist_ok=True)
    _write(made, options)


def _training(data: Dataset, name: str, seed: int, options: argparse.Namespace) -> Training:
    model = ModelSettings(width=options.width, **WAYS[name].model)
    shared = {"epochs": options.epochs, "batch": 128, "peak_lr": 0.1, "augment": (Augment.SHIFT,)}
    training = TrainingSettings(
        **{**shared, **WAYS[name].training}, precision=Precision.BF16, keep=Keep.LAST, seed=seed
    )
    about = f"{model}{training}{options.pictures}/{options.test}"
    path = options.work / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return Training(**json.loads(path.read_text(encoding="utf-8")))
    outcome = train_plain([data], PlainSettings(choices=RunChoices(model=model, training=training)))
    found = Training(
        way=name,
        seed=seed,
        losses=[epoch.loss for epoch in outcome.epochs],
        accuracies=[epoch.scores["accuracy"] for epoch in outcome.epochs],
        seconds=outcome.train_seconds,
    )
    path.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
    curve = " ".join(f"{accuracy:.4f}" for accuracy in found.accuracies)
    print(f"{name}, seed {seed}: {curve}, {found.seconds:.0f} s", flush=True)
    return found


def epochs_to(level: float, accuracies: Sequence[float]) -> float | None:
    """Epochs until an accuracy was reached for the first time, from 0 before the first; None: it never was."""
    before = 0.0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy >= level:
            return epoch + (level - before) / (accuracy - before)
        before = accuracy
    return None


def _write(made: Sequence[Training], options: argparse.Namespace) -> None:
    rows = []
    for way in options.ways:
        some = [one for one in made if one.way == way]
        last = [one.accuracies[-1] for one in some]
        reached = {f"{level:g}": [epochs_to(level, one.accuracies) for one in some] for level in options.levels}
        changes = {"model": dict(WAYS[way].model), "training": dict(WAYS[way].training)}
        rows.append({"way": way, **changes, "test_accuracy_mean": statistics.fmean(last), "epochs_to": reached})
        print(f"{way:42} {statistics.fmean(last):.4f} ({min(last):.4f} to {max(last):.4f}, {len(last)} seeds)")
    about = {
        "command": " ".join(["python -m benchmarks.stem", *map(repr, sys.argv[1:])]),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": machine(),
        "rows": rows,
        "trainings": [asdict(one) for one in made],
    }
    (options.out / "stem.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    figure, axis = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for way in options.ways:
        curves = np.array([one.accuracies for one in made if one.way == way]) * 100
        epochs = np.arange(1, curves.shape[1] + 1)
        (line,) = axis.plot(epochs, curves.mean(axis=0), label=way)
        axis.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), alpha=0.15, color=line.get_color())
    axis.set_xlabel("epochs (bands: lowest and highest of the seeds)")
    axis.set_ylabel("test accuracy, %")
    axis.legend(fontsize=8)
    figure.savefig(options.out / "stem.png", dpi=120)


if __name__ == "__main__":
    main()
