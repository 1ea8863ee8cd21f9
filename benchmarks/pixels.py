"""Does a pixel of a large picture cost what a pixel of a small one does? Morphing and first layer, `compact`.

    python -m benchmarks.pixels [--sides 32 64 128 224] [--rounds 15] [--out results/benchmarks]

Each side gets as many pictures as make about the same number of pixels, 128 of 32 x 32. Within a round the sides take
turns; a side's time a pixel is divided by that of the first side in the same round, and the median over rounds counts.
The first layer is applied as a compute node does in bf16, prepared once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from benchmarks.machine import RESULTS, machine
from mple.model.first_layer.prepared import prepare_layer
from mple.model.stem import Stem
from mple.morph import PRESETS, ImageShape, MorphKey
from mple.morph.arithmetic import Arithmetic
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher

mpl.use("Agg")
from matplotlib import pyplot as plt

_PIXELS = 128 * 32 * 32


@dataclass(frozen=True, kw_only=True, slots=True)
class SideTimes:
    """Time a pixel at one side, median over rounds; ratios are to the first side's in the same round."""

    side_px: int
    pictures: int
    morph_ns: float
    morph_ratio: float
    layer_ns: float
    layer_ratio: float


def main() -> None:
    """Run the benchmark and write `pixels.json` and `pixels.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="*", type=int, default=[32, 64, 128, 224])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    works = {side: _works(side) for side in options.sides}
    for work in (one for pair in works.values() for one in pair):
        work()
    rounds = [
        {side: tuple(_ns(work, side) for work in pair) for side, pair in works.items()} for _ in range(options.rounds)
    ]
    first = options.sides[0]
    results = []
    for side in options.sides:
        morph, layer = ([one[side][place] for one in rounds] for place in (0, 1))
        ratios = [[one[side][place] / one[first][place] for one in rounds] for place in (0, 1)]
        results.append(
            SideTimes(
                side_px=side,
                pictures=_pictures(side),
                morph_ns=statistics.median(morph),
                morph_ratio=statistics.median(ratios[0]),
                layer_ns=statistics.median(layer),
                layer_ratio=statistics.median(ratios[1]),
            )
        )
        last = results[-1]
        print(
            f"{side:4} px, {last.pictures:3} pictures: morphing {last.morph_ns:5.1f} ns a pixel "
            f"({last.morph_ratio:.2f} x), first layer {last.layer_ns:5.1f} ns ({last.layer_ratio:.2f} x)"
        )
    about = {
        "command": f"python -m benchmarks.pixels --rounds {options.rounds}",
        "machine": machine(),
        "sides": [asdict(result) for result in results],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pixels.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    _plot(results, options.out / "pixels.png")


def _pictures(side_px: int) -> int:
    return max(1, round(_PIXELS / side_px**2))


def _works(side_px: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Morphing, and the first layer on what it gives."""
    image, scheme, key = ImageShape(channels=3, height=side_px, width=side_px), PRESETS["compact"], MorphKey.generate()
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3)
    layer = build_augmented_layer(scheme, image, stem.kernels_FCpp, key, np.arange(64), session=b"p", key_epoch=1)
    prepared = prepare_layer(layer, Arithmetic.BF16)
    morpher = Morpher(scheme, image, key, session=b"p", key_epoch=1)
    x_BCHW = np.random.default_rng(1).normal(size=(_pictures(side_px), 3, side_px, side_px)).astype(np.float32)
    t_BKQ = torch.from_numpy(morpher.morph(x_BCHW))
    return lambda: morpher.morph(x_BCHW), lambda: prepared.apply(t_BKQ)


def _ns(work: Callable[[], object], side_px: int) -> float:
    began = time.perf_counter()
    work()
    return 1e9 * (time.perf_counter() - began) / (_pictures(side_px) * side_px**2)


def _plot(results: list[SideTimes], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(5.2, 2.8), layout="constrained")
    sides = [str(result.side_px) for result in results]
    axis.plot(sides, [result.morph_ratio for result in results], "o-", color="#4477aa", label="morphing")
    axis.plot(sides, [result.layer_ratio for result in results], "s-", color="#aa3377", label="first layer")
    axis.axhline(1.3, color="#999999", linewidth=1, linestyle=":")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("side of the pictures, pixels")
    axis.set_ylabel("time a pixel\nover that of the first")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
