"""What hardening costs and what it buys: test accuracy beside the best attack's SSIM, budget by budget.

    python -m benchmarks.frontier [--brain brain_mri_64.npz] [--budgets 30 100 ...] [--seeds 1 2 3] [--workers 2]
        [--work runs/frontier] [--out results/benchmarks]

CIFAR-10, and grey pictures of an .npz file where one is named.

A training is one of `benchmarks.coded_training`: noise, morphing, codec and layer as a run has them. Beside the budgets
stand the plain pictures (codec f32) and the morphed ones without noise. The adversary is the strongest of the lab: the
compute node that knows the stem, so has opened key and pictures, noise and all, and cleans them by the best of nothing,
the Wiener filter and a network, both made from public pictures: test pictures, on which nothing is attacked. SSIM is
the mean over training pictures. Points that the work folder already holds are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.coded_training import CodedTraining, Recipe
from benchmarks.frontier_attack import Attacked, attack_noise
from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, Dataset, NpzSource, open_source
from mple.plan import NormalisationSettings, PrivacySettings
from mple.plan.settings import NoiseShape, PrivacyMode
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum
from mple.simulate.children import tied

mpl.use("Agg")
from matplotlib import pyplot as plt

PLAIN, UNNOISED = "plain", "none"
_COLOUR, _GREY = "cifar10", "brain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One place on the frontier."""

    dataset: str
    mode: str
    """`plain`, `none` (morphed without noise), or a shape of noise."""
    budget_bits: float
    """0 where there is no noise."""

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.dataset}-{self.mode}-{self.budget_bits:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A point's trainings."""

    point: Point
    seeds: tuple[int, ...]
    test_accuracies: tuple[float, ...]
    bits_per_value: float
    noise_deviation_px: float
    """Root mean square over values, in grey levels of 255."""


def main() -> None:
    """Run what is missing and write `frontier.json` and `frontier.png`."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    points = [
        Point(dataset=dataset, mode=mode, budget_bits=budget)
        for dataset in (_COLOUR, _GREY)[: 1 if options.brain is None else 2]
        for mode, budget in [(PLAIN, 0.0), (UNNOISED, 0.0), *((options.shape, budget) for budget in options.budgets)]
    ]
    if options.only:
        (point,) = (point for point in points if point.name == options.only)
        _measure(point, options)
        return
    with ThreadPoolExecutor(options.workers) as workers:
        for _ in workers.map(lambda point: _in_own_process(point, options.work), points):
            pass
    rows = [_row(point, options.work) for point in points]
    options.out.mkdir(parents=True, exist_ok=True)
    brain = "" if options.brain is None else f" --brain {options.brain.name}"
    command = f"python -m benchmarks.frontier{brain} --epochs {options.epochs} --width {options.width:g}"
    about = {"command": command, "machine": machine(), "shape": options.shape, "points": rows}
    (options.out / "frontier.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    _print(rows)
    _plot(rows, options.out / "frontier.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brain", type=Path, help="an .npz file of grey pictures")
    parser.add_argument("--most-train", type=int, default=15_000, help="pictures of CIFAR-10")
    parser.add_argument("--budgets", nargs="*", type=float, default=[30, 100, 300, 1000, 3000])
    parser.add_argument("--shape", default="covariance", choices=list(NoiseShape))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=600, help="of the adversary's network")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/frontier"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _trained(point: Point, work: Path) -> Path:
    return work / f"{point.name}.json"


def _attacked(point: Point, work: Path) -> Path:
    return work / f"{point.name}-attacked.json"


def _row(point: Point, work: Path) -> dict[str, Any]:
    trained = json.loads(_trained(point, work).read_text(encoding="utf-8"))
    return {**trained, "attacked": json.loads(_attacked(point, work).read_text(encoding="utf-8"))}


def _in_own_process(point: Point, work: Path) -> None:
    """With one thread: two side by side get more done on two cores than one after the other."""
    if not (_trained(point, work).exists() and _attacked(point, work).exists()):
        command = [sys.executable, "-m", "benchmarks.frontier", *sys.argv[1:], "--only", point.name]
        subprocess.run(tied(command), check=True, env=dict(os.environ, OMP_NUM_THREADS="1"))


def _measure(point: Point, options: argparse.Namespace) -> None:
    dataset = _dataset(point.dataset, options)
    noise = None if point.mode in (PLAIN, UNNOISED) else _noise(dataset, point)
    if not _attacked(point, options.work).exists():
        _write(attack_noise(dataset, noise, steps=options.steps), _attacked(point, options.work))
    if not _trained(point, options.work).exists():
        _write(_train(dataset, noise, point, options), _trained(point, options.work))
    _print([_row(point, options.work)])


def _train(dataset: Dataset, noise: PictureNoise | None, point: Point, options: argparse.Namespace) -> Trained:
    codec, layer = ("f32", "f32") if point.mode == PLAIN else ("q6", "int8")
    accuracies, bits = [], 0.0
    for seed in options.seeds:
        recipe = Recipe(epochs=options.epochs, width=options.width)
        run = CodedTraining(dataset, codec=codec, layer=layer, seed=seed, recipe=recipe, noise=noise)
        for epoch in range(options.epochs):
            run.epoch(epoch)
        accuracies.append(run.accuracy())
        bits = run.bits_per_value
    return Trained(
        point=point,
        seeds=tuple(options.seeds),
        test_accuracies=tuple(accuracies),
        bits_per_value=bits,
        noise_deviation_px=0.0 if noise is None else noise.distribution.deviation_px(),
    )


def _write(measured: Trained | Attacked, path: Path) -> None:
    path.write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")


def _noise(dataset: Dataset, point: Point) -> PictureNoise:
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, shape=NoiseShape(point.mode), budget_bits=point.budget_bits)
    pixels_NCHW = dataset.train.take(np.arange(len(dataset.train.labels))).pixels_NCHW
    normalisation = NormalisationSettings()
    distribution = NoiseDistribution(
        spectrum=measure_spectrum(pixels_NCHW, normalisation), privacy=privacy, normalisation=normalisation
    )
    return PictureNoise(secrets.token_bytes(32), distribution)


def _dataset(name: str, options: argparse.Namespace) -> Dataset:
    if name == _GREY:
        return open_source(NpzSource(path=options.brain))
    return open_source(Cifar10Source(most_train=options.most_train))


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        point, accuracies, ways = row["point"], row["test_accuracies"], row["attacked"]["ssim_by_way"]
        print(f"{point['dataset']:8} {point['mode']:10} {point['budget_bits']:8g} bits", end="")
        print(f"  noise {row['noise_deviation_px']:6.1f} px  {row['bits_per_value']:5.2f} bits a value", end="")
        print(f"  accuracy {statistics.fmean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})", end="")
        print("  SSIM " + ", ".join(f"{way} {ssim:.3f}" for way, ssim in ways.items()), flush=True)


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    datasets = list(dict.fromkeys(row["point"]["dataset"] for row in rows))
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(5.2 * len(datasets), 3.9), layout="constrained", squeeze=False
    )
    for axis, dataset in zip(axes[0], datasets, strict=True):
        for row in (row for row in rows if row["point"]["dataset"] == dataset):
            point, accuracies = row["point"], [100 * one for one in row["test_accuracies"]]
            ssim, mean = max(row["attacked"]["ssim_by_way"].values()), statistics.fmean(accuracies)
            noisy = point["mode"] not in (PLAIN, UNNOISED)
            axis.plot([ssim] * len(accuracies), accuracies, "o", color="#4477aa" if noisy else "#aa3377", markersize=4)
            label = f"{point['budget_bits']:g} bits" if noisy else {"plain": "plain", "none": "morphed"}[point["mode"]]
            below = point["mode"] == UNNOISED
            axis.annotate(
                label, (ssim, mean), (-6, -10 if below else 4), textcoords="offset points", ha="right", fontsize=8
            )
        axis.axvline(0.3, color="#999999", linewidth=1, linestyle=":")
        axis.set_xlim(-0.02, 1.04)
        axis.set_title(dataset, fontsize=10)
        axis.set_xlabel("SSIM of the best attack's pictures (dotted: 0.3)")
        axis.set_ylabel("test accuracy, %")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
