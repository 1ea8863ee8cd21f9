"""Training by morphed pictures beside federated averaging: bytes and seconds to the accuracy of one epoch of mple.

    python -m benchmarks.federated [--rounds 4] [--images N] [--width 1.0] [--runs DIR] [--out results/benchmarks]

One epoch of `examples/cifar10.toml` by mple's five processes, then Flower's federated averaging (in an environment of
its own) with the same three sites, pictures, network and optimiser, one local epoch a round, until its averaged network
is as good. Bytes of both are those that relays before the server counted on TCP, both directions, all sites; mple's
include mutual TLS, Flower's go in the clear. Seconds are from the first sample or weight to the last, on one machine:
three sites share it, where three hospitals' machines would train side by side and mple's sites would have little to do.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.machine import RESULTS, machine
from benchmarks.whole_runs import measured_run, scratch
from comparison.elsewhere.flower import FlowerSettings, cost_of_accuracy, measure_flower
from comparison.elsewhere.unavailable import Unavailable
from mple.data import Cifar10Source, Partition, PartitionKind
from mple.model.settings import Augment
from mple.plan import DeliverTo, DeliverySettings, ModelSettings, Precision, TrainingSettings
from mple.simulate.settings import SimulationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt

_SITES = ("north", "east", "south")


def main() -> None:
    """Run both and write `federated.json` and `federated.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="of federated averaging; its learning rate is one cycle")
    parser.add_argument("--images", type=int, help="training pictures in all, by default 50,000")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with scratch(options.runs, "federated") as folder:
        ours = _ours(options, folder / "mple")
        print(json.dumps(ours), flush=True)
        theirs = _theirs(options, folder, ours["test_accuracy"])
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.federated --rounds {options.rounds} --width {options.width:g}"
    about = {"command": command, "machine": machine(), "mple": ours, "flower": theirs}
    (options.out / "federated.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: theirs.get(name) for name in ("state", "detail", "to_same_accuracy", "rounds")}, indent=1))
    if theirs["state"] == "measured":
        _plot(ours, theirs, options.out / "federated.png")


def _ours(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    most = None if options.images is None else options.images // len(_SITES)
    settings = SimulationSettings(
        sites=_SITES,
        data=Cifar10Source(partition=Partition(kind=PartitionKind.IID), most_train=most),
        model=ModelSettings(width=options.width),
        training=TrainingSettings(epochs=1, batch=128, peak_lr=0.1, precision=Precision.BF16, augment=(Augment.SHIFT,)),
        delivery=DeliverySettings(to=DeliverTo.NONE),  # what training costs is measured
    )
    run = measured_run(settings, folder)
    return {
        "up_bytes": sum(crossed.up for crossed in run.crossed.values()),
        "down_bytes": sum(crossed.down for crossed in run.crossed.values()),
        "train_seconds": run.summary.outcome.train_seconds,
        "wall_seconds": run.wall_s,
        "test_accuracy": run.summary.scores["accuracy"],
    }


def _theirs(options: argparse.Namespace, folder: Path, accuracy: float) -> dict[str, Any]:
    settings = FlowerSettings(sites=_SITES, rounds=options.rounds, width=options.width, images=options.images)
    try:
        result = measure_flower(settings, folder / "flower")
    except Unavailable as fault:
        return {"state": "skipped", "detail": str(fault)}
    cost = cost_of_accuracy(result.rounds, accuracy)
    return {**asdict(result), "to_same_accuracy": None if cost is None else asdict(cost)}


def _plot(ours: dict[str, Any], theirs: dict[str, Any], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    megabytes, accuracies, crossed = [], [], 0
    for one in theirs["rounds"]:
        crossed += one["up_bytes"] + one["down_bytes"]
        megabytes.append(crossed / 1e6)
        accuracies.append(100 * one["test_accuracy"])
    axis.plot(megabytes, accuracies, "o-", color="#4477aa", label="federated averaging, a point a round")
    own = (ours["up_bytes"] + ours["down_bytes"]) / 1e6
    axis.plot(own, 100 * ours["test_accuracy"], "D", color="#aa3377", label="morphed pictures, one epoch")
    axis.set_xlabel("MB over all sites' links, both directions")
    axis.set_ylabel("test accuracy, %")
    axis.set_xlim(left=0)
    axis.legend(fontsize=9)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
