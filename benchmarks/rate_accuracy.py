"""What a codec costs in bits and in accuracy: whole trainings on coded pictures, codec by codec and seed by seed.

    python -m benchmarks.rate_accuracy [--codecs f32 q8 ...] [--seeds 1 2 3] [--layer int8] [--epochs 4]
        [--width 0.5] [--workers 2] [--work runs/rate_accuracy] [--out results/benchmarks]

A training is that of `examples/cifar10.toml`, all 50,000 pictures of CIFAR-10, in one process: pictures are morphed,
coded and decoded again, go through the augmented layer (as it travels, f32 for the codec f32) and train the trunk; the
10,000 test pictures are coded alike. Bits are those of packed messages. Trainings that the work folder already holds
are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl

from benchmarks.coded_training import CodedTraining
from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, open_source
from mple.plan import WireSettings
from mple.simulate.children import tied
from mple.wire.names import LAYER_DTYPES, VALUE_CODECS

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training's figures."""

    codec: str
    layer: str
    """Numbers of the layer."""
    seed: int
    epochs: int
    width: float
    bits_per_value: float
    losses: tuple[float, ...]
    """Mean of each epoch."""
    test_accuracy: float


def main() -> None:
    """Run what is missing and write `rate_accuracy.json` and `rate_accuracy.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codecs", nargs="*", default=list(VALUE_CODECS), choices=VALUE_CODECS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--layer", default=WireSettings().layer, choices=LAYER_DTYPES)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/rate_accuracy"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if len(options.codecs) == len(options.seeds) == options.workers == 1:
        _train_alone(_Point.of(options.codecs[0], options.seeds[0], options), options.work)
    else:
        points = [_Point.of(codec, seed, options) for seed in options.seeds for codec in options.codecs]
        with ThreadPoolExecutor(options.workers) as workers:
            for _ in workers.map(lambda point: _in_own_process(point, options.work), points):
                pass
    trainings = list(_done(options.work, options.epochs, options.width))
    options.out.mkdir(parents=True, exist_ok=True)
    _write(trainings, options.out)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    codec: str
    layer: str
    seed: int
    epochs: int
    width: float

    @classmethod
    def of(cls, codec: str, seed: int, options: argparse.Namespace) -> _Point:
        layer = "f32" if codec == "f32" else options.layer
        return cls(codec=codec, layer=layer, seed=seed, epochs=options.epochs, width=options.width)

    def path(self, work: Path) -> Path:
        return work / f"{self.codec}-{self.layer}-seed{self.seed}-epochs{self.epochs}-width{self.width:g}.json"


def _in_own_process(point: _Point, work: Path) -> None:
    """With one thread: two trainings side by side get more done on two cores than one after the other."""
    if point.path(work).exists():
        return
    chosen = [f"--codecs={point.codec}", f"--seeds={point.seed}", f"--layer={point.layer}"]
    chosen += [f"--epochs={point.epochs}", f"--width={point.width}", "--workers=1", f"--work={work}", f"--out={work}"]
    command = [sys.executable, "-m", "benchmarks.rate_accuracy", *chosen]
    subprocess.run(tied(command), check=True, env=dict(os.environ, OMP_NUM_THREADS="1"))


def _done(work: Path, epochs: int, width: float) -> Iterator[Training]:
    for codec in VALUE_CODECS:
        for path in sorted(work.glob(f"{codec}-*-seed*-epochs{epochs}-width{width:g}.json")):
            yield Training(**json.loads(path.read_text(encoding="utf-8")))


def _train_alone(point: _Point, work: Path) -> None:
    run = CodedTraining(open_source(Cifar10Source()), **asdict(point))
    losses = tuple(run.epoch(epoch) for epoch in range(point.epochs))
    result = Training(**asdict(point), bits_per_value=run.bits_per_value(), losses=losses, test_accuracy=run.accuracy())
    point.path(work).write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    print(f"{point.codec:3} seed {point.seed}: {result.bits_per_value:6.3f} bits a value, ", end="")
    print(f"test accuracy {result.test_accuracy:.4f}")


def _write(trainings: list[Training], out: Path) -> None:
    by_codec = {codec: [one for one in trainings if one.codec == codec] for codec in VALUE_CODECS}
    by_codec = {codec: some for codec, some in by_codec.items() if some}
    exact = {one.seed: one.test_accuracy for one in by_codec.get("f32", [])}
    rows = []
    for codec, some in by_codec.items():
        accuracies = [one.test_accuracy for one in some]
        differences = [100 * (one.test_accuracy - exact[one.seed]) for one in some if one.seed in exact]
        rows.append(
            {
                "codec": codec,
                "layers": sorted({one.layer for one in some}),
                "seeds": [one.seed for one in some],
                "bits_per_value": statistics.fmean(one.bits_per_value for one in some),
                "test_accuracy_mean": statistics.fmean(accuracies),
                "test_accuracy_low": min(accuracies),
                "test_accuracy_high": max(accuracies),
                "points_against_f32": statistics.fmean(differences) if differences else None,
            }
        )
        print(f"{codec:3} {rows[-1]['bits_per_value']:6.3f} bits, {statistics.fmean(accuracies):.4f}", end="")
        print(f" ({min(accuracies):.4f} to {max(accuracies):.4f}, {len(some)} seeds)")
    if not trainings:
        return
    about = {
        "command": f"python -m benchmarks.rate_accuracy --epochs {trainings[0].epochs} --width {trainings[0].width:g}",
        "machine": machine(),
        "codecs": rows,
        "trainings": [asdict(one) for one in trainings],
    }
    (out / "rate_accuracy.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    _plot(by_codec, out / "rate_accuracy.png")


def _plot(by_codec: dict[str, list[Training]], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for codec, some in by_codec.items():
        bits = statistics.fmean(one.bits_per_value for one in some)
        accuracies = [100 * one.test_accuracy for one in some]
        axis.plot([bits] * len(some), accuracies, "o", color="#4477aa", markersize=4, alpha=0.6)
        axis.plot(bits, statistics.fmean(accuracies), "_", color="#aa3377", markersize=18, markeredgewidth=2)
        axis.annotate(codec, (bits, max(accuracies)), (0, 6), textcoords="offset points", ha="center", fontsize=9)
    axis.axvline(8, color="#999999", linewidth=1, linestyle=":")
    axis.set_xscale("log", base=2)
    ticks = [2, 3, 4, 5, 6, 8, 16, 32]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("bits a value as it travels (dotted: raw pixels)")
    axis.set_ylabel("test accuracy, %")
    axis.margins(y=0.2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
