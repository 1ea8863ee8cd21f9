"""What a codec costs in bits and in accuracy: whole trainings on coded pictures, codec by codec and seed by seed.

    python -m benchmarks.rate_accuracy [--codecs f32 k6 "JPEG 75" ...] [--seeds 1 2 3] [--layer int8] [--epochs 4]
        [--width 0.5] [--pictures 50000] [--stem whitening] [--init identity] [--mri FILE] [--workers 2]
        [--work runs/rate_accuracy] [--out results/benchmarks]

A training is that of `examples/cifar10.toml` but for size, in one process: pictures are morphed, coded and decoded
again, go through the augmented layer (as it travels, f32 for the codec f32) and train the trunk; the test pictures are
coded alike. "JPEG 75" and "WebP 75" are files of the plain pictures, a file each, trained and tested on in the same
way. Bits are those of packed messages, or of the files. With `--mri` the set is an archive of brain MRI, trained on as
`examples/brain_mri.toml` says. Trainings that the work folder already holds are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl

from benchmarks.coded_training import CodedTraining, Recipe
from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, NpzSource, open_source
from mple.plan import WireSettings
from mple.simulate.children import tied
from mple.wire.names import CODECS, LAYER_DTYPES

mpl.use("Agg")
from matplotlib import pyplot as plt

_FILES = ("JPEG", "WebP")
_QUALITIES = (90, 75, 50, 25)
_ALL = (*CODECS, *(f"{name} {quality}" for name in _FILES for quality in _QUALITIES))
_SHOWN = (("q", "#999999"), ("k", "#4477aa"), ("JPEG", "#ee6677"), ("WebP", "#228833"))
_POINTS_LOST = 0.3
"""Below f32, mean over the seeds: what a default may lose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training's figures."""

    codec: str
    layer: str
    """Numbers of the layer."""
    seed: int
    recipe: Recipe
    pictures: int
    """For training."""
    bits_per_value: float
    """Of a pixel value, as it travels."""
    losses: tuple[float, ...]
    """Mean of each epoch."""
    test_accuracy: float


def main() -> None:
    """Run what is missing and write `rate_accuracy.json` and `rate_accuracy.png`, with `--mri` `rate_accuracy_mri`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codecs", nargs="*", default=list(_ALL), help='ours, or "JPEG QUALITY", "WebP QUALITY"')
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    default = WireSettings().layer
    parser.add_argument("--layer", default=default if default in LAYER_DTYPES else "int8", choices=LAYER_DTYPES)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--pictures", type=int, default=50_000, help="for training, of CIFAR-10")
    parser.add_argument("--stem", help="model.stem; by default the product's")
    parser.add_argument("--init", help="model.init; by default the product's")
    parser.add_argument("--mri", type=Path, help="archive of brain MRI, in the place of CIFAR-10")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/rate_accuracy"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    points = [_Point.of(codec, seed, options) for seed in options.seeds for codec in options.codecs]
    if len(points) == options.workers == 1:
        _train_alone(points[0], options.work)
    else:
        with ThreadPoolExecutor(options.workers) as workers:
            for _ in workers.map(lambda point: _in_own_process(point, options), points):
                pass
    trainings = list(_done(points, options.work))
    options.out.mkdir(parents=True, exist_ok=True)
    _write(trainings, options)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    codec: str
    layer: str
    seed: int
    recipe: Recipe
    pictures: int
    mri: Path | None

    @classmethod
    def of(cls, codec: str, seed: int, options: argparse.Namespace) -> _Point:
        size = {"epochs": options.epochs, "width": options.width, "stem": options.stem, "init": options.init}
        if options.mri:
            size |= {"batch": 64, "peak_lr": 0.05}
        return cls(
            codec=codec,
            layer="f32" if codec == "f32" else options.layer,
            seed=seed,
            recipe=Recipe(**size),
            pictures=0 if options.mri else options.pictures,
            mri=options.mri,
        )

    def path(self, work: Path) -> Path:
        recipe = self.recipe
        of = "mri" if self.mri else f"{self.pictures}"
        parts = (self.codec.replace(" ", ""), self.layer, of, f"epochs{recipe.epochs}", f"width{recipe.width:g}")
        return work / f"{'-'.join((*parts, recipe.stem or 'stem', recipe.init or 'init'))}-seed{self.seed}.json"


def _in_own_process(point: _Point, options: argparse.Namespace) -> None:
    """With one thread: two trainings side by side get more done on two cores than one after the other."""
    if point.path(options.work).exists():
        return
    recipe = point.recipe
    chosen = [f"--codecs={point.codec}", f"--seeds={point.seed}", f"--layer={options.layer}", "--workers=1"]
    chosen += [f"--epochs={recipe.epochs}", f"--width={recipe.width}", f"--pictures={options.pictures}"]
    chosen += [f"--{name}={value}" for name, value in (("stem", recipe.stem), ("init", recipe.init)) if value]
    chosen += [f"--mri={point.mri}"] if point.mri else []
    command = [sys.executable, "-m", "benchmarks.rate_accuracy", *chosen, f"--work={options.work}"]
    subprocess.run(tied([*command, f"--out={options.work}"]), check=True, env=dict(os.environ, OMP_NUM_THREADS="1"))


def _done(points: Sequence[_Point], work: Path) -> Iterator[Training]:
    for point in sorted(points, key=lambda point: _ALL.index(point.codec) if point.codec in _ALL else len(_ALL)):
        if point.path(work).exists():
            made = json.loads(point.path(work).read_text(encoding="utf-8"))
            yield Training(**{**made, "recipe": Recipe(**made["recipe"])})


def _train_alone(point: _Point, work: Path) -> None:
    if point.path(work).exists():
        return
    source = NpzSource(path=point.mri) if point.mri else Cifar10Source(most_train=point.pictures)
    dataset = open_source(source)
    run = CodedTraining(dataset, codec=point.codec, layer=point.layer, seed=point.seed, recipe=point.recipe)
    losses = tuple(run.epoch(epoch) for epoch in range(point.recipe.epochs))
    result = Training(
        codec=point.codec,
        layer=point.layer,
        seed=point.seed,
        recipe=point.recipe,
        pictures=len(dataset.train),
        bits_per_value=run.bits_per_value,
        losses=losses,
        test_accuracy=run.accuracy(),
    )
    point.path(work).write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    print(f"{point.codec:8} seed {point.seed}: {result.bits_per_value:6.3f} bits a value, ", end="")
    print(f"test accuracy {result.test_accuracy:.4f}", flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A codec over its seeds."""

    codec: str
    layers: tuple[str, ...]
    seeds: tuple[int, ...]
    bits_per_value: float
    test_accuracy_mean: float
    test_accuracy_low: float
    test_accuracy_high: float
    points_against_f32: float | None
    """Mean over the seeds that f32 was trained with, too."""
    points_deviation: float | None
    """Of that mean, from how the seeds differ."""


def summed_up(trainings: Sequence[Training]) -> list[Row]:
    """Each codec's, in the order in which they come."""
    exact = {one.seed: one.test_accuracy for one in trainings if one.codec == "f32"}
    rows = []
    for codec in dict.fromkeys(one.codec for one in trainings):
        some = [one for one in trainings if one.codec == codec]
        accuracies = [one.test_accuracy for one in some]
        lost = [100 * (one.test_accuracy - exact[one.seed]) for one in some if one.seed in exact]
        rows.append(
            Row(
                codec=codec,
                layers=tuple(sorted({one.layer for one in some})),
                seeds=tuple(one.seed for one in some),
                bits_per_value=statistics.fmean(one.bits_per_value for one in some),
                test_accuracy_mean=statistics.fmean(accuracies),
                test_accuracy_low=min(accuracies),
                test_accuracy_high=max(accuracies),
                points_against_f32=statistics.fmean(lost) if lost else None,
                points_deviation=statistics.stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else None,
            )
        )
    return rows


def cheapest(rows: Sequence[Row], family: str) -> Row | None:
    """Of a family the codec of fewest bits that loses no more than a default may, and no finer one of it does."""
    found = None
    for row in sorted((row for row in rows if row.codec.startswith(family)), key=lambda row: -row.bits_per_value):
        if row.points_against_f32 is None or row.points_against_f32 < -_POINTS_LOST:
            break
        found = row
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The table for docs/science/codecs.md."""
    lines = [
        "| codec | layer | bits a value | test accuracy, mean | lowest to highest | seeds | points against f32 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        against = "" if row.points_against_f32 is None else f"{row.points_against_f32:+.2f}"
        against += "" if row.points_deviation is None else f" ± {row.points_deviation:.2f}"
        lines.append(
            f"| {row.codec} | {', '.join(row.layers)} | {row.bits_per_value:.2f} | {row.test_accuracy_mean:.4f} | "
            f"{row.test_accuracy_low:.4f} to {row.test_accuracy_high:.4f} | {len(row.seeds)} | {against} |"
        )
    for family, _ in _SHOWN:
        if least := cheapest(rows, family):
            lines.append(
                f"\n{family}: {least.codec}, {least.bits_per_value:.2f} bits, loses no more than {_POINTS_LOST}."
            )
    return "\n".join(lines)


def _write(trainings: Sequence[Training], options: argparse.Namespace) -> None:
    rows = summed_up(trainings)
    if not rows:
        return
    name = "rate_accuracy_mri" if options.mri else "rate_accuracy"
    chosen = f"--epochs {options.epochs} --width {options.width:g}"
    chosen += " --mri FILE" if options.mri else f" --pictures {options.pictures}"
    chosen += "".join(f" --{one} {getattr(options, one)}" for one in ("stem", "init") if getattr(options, one))
    about = {
        "command": f"python -m benchmarks.rate_accuracy {chosen}",
        "machine": machine(),
        "codecs": [asdict(row) for row in rows],
        "trainings": [asdict(one) for one in trainings],
    }
    (options.out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(markdown(rows))
    _plot(trainings, rows, options.out / f"{name}.png")


def _plot(trainings: Sequence[Training], rows: Sequence[Row], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(7.2, 4), layout="constrained")
    for family, colour in _SHOWN:
        some = sorted((row for row in rows if row.codec.startswith(family)), key=lambda row: row.bits_per_value)
        if some:
            label = {"q": "qN", "k": "kN"}.get(family, f"{family} of the plain pictures")
            means = [100 * row.test_accuracy_mean for row in some]
            axis.plot([row.bits_per_value for row in some], means, "-_", color=colour, markersize=14, label=label)
            for row, mean in zip(some, means, strict=True):
                text = row.codec.removeprefix(family + " ")
                axis.annotate(
                    text, (row.bits_per_value, mean), (0, 7), textcoords="offset points", fontsize=8, ha="center"
                )
            each = [one for one in trainings if one.codec.startswith(family)]
            axis.plot(
                [one.bits_per_value for one in each],
                [100 * one.test_accuracy for one in each],
                ".",
                color=colour,
                alpha=0.5,
            )
    if exact := next((row for row in rows if row.codec == "f32"), None):
        axis.axhspan(
            100 * exact.test_accuracy_low, 100 * exact.test_accuracy_high, color="#eeeeee", label="f32, extremes"
        )
        axis.axhline(100 * exact.test_accuracy_mean, color="#999999", linewidth=1)
    axis.axvline(8, color="#999999", linewidth=1, linestyle=":")
    axis.set_xscale("log", base=2)
    ticks = [0.5, 1, 1.5, 2, 3, 4, 6, 8]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("bits a pixel value as it travels (dotted: raw pixels)")
    axis.set_ylabel("test accuracy, %")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
