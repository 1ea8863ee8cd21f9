"""Whether large images cost more by the pixel than small ones, with preset `compact`: morphing and the first layer.

    python -m benchmarks.pixels [--sides 32 64 128 224] [--rounds 12] [--processor-time] [--out docs/benchmarks]

Sizes take turns within a round, each with as many images as make 131,072 pixels (at least two), so that buffers are
about equal; per size the median over rounds of time per pixel counts, and its ratio to the first size's in the same
round. Morphing is what a site does (float32), the first layer what the compute node does (bf16, one site).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import torch

from mple.model import Stem
from mple.morph import (
    PRESETS,
    Arithmetic,
    ImageShape,
    Morpher,
    MorphKey,
    build_augmented_layer,
    draw_order,
    prepare_layer,
)

mpl.use("Agg")
from matplotlib import pyplot as plt

_PIXELS = 128 * 32 * 32
_FEWEST_IMAGES = 2
_SCHEME = PRESETS["compact"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelTimes:
    """One image size."""

    side_px: int
    images: int
    setup_s: float
    """Building and preparing the layer."""
    morph_ns: float
    """Per pixel, all channels."""
    morph_ratio: float
    """To the first size, median over rounds."""
    first_layer_ns: float
    first_layer_ratio: float


def main() -> None:
    """Run the benchmark and write `pixels.json` and `pixels.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128, 224])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    options = parser.parse_args()
    threads = 1 if options.processor_time else os.cpu_count() or 1
    torch.set_num_threads(threads)
    results = _measure(options.sides, options.rounds, time.thread_time if options.processor_time else time.perf_counter)
    for one in results:
        print(
            f"{one.side_px:3} px: morphing {one.morph_ns:5.1f} ns a pixel ({one.morph_ratio:.2f}), "
            f"first layer {one.first_layer_ns:5.1f} ns ({one.first_layer_ratio:.2f}), set-up {one.setup_s:.3f} s"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.pixels", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "threads": threads,
        "clock": "processor time" if options.processor_time else "time passed",
        "sizes": [asdict(one) for one in results],
    }
    (options.out / "pixels.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    _plot(results, options.out / "pixels.png")


@torch.no_grad()
def _measure(sides: list[int], rounds: int, now: Callable[[], float]) -> list[PixelTimes]:
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3).kernels_FCpp
    key, order = MorphKey.generate(), draw_order(bytes(32), "channel order", 64)
    setups, counts, works = [], [], []
    for side in sides:
        shape = ImageShape(channels=3, height=side, width=side)
        began = now()
        raw = build_augmented_layer(_SCHEME, shape, stem, key, order, session=b"bench", key_epoch=1)
        layer = prepare_layer(raw, Arithmetic.BF16)
        setups.append(now() - began)
        counts.append(max(_FEWEST_IMAGES, round(_PIXELS / side**2)))
        x_BCHW = torch.randn((counts[-1], 3, side, side))
        morpher = Morpher(_SCHEME, shape, key, session=b"bench", key_epoch=1)
        t_BKQ = morpher.morph(x_BCHW)
        works.append((lambda morpher=morpher, x=x_BCHW: morpher.morph(x), lambda layer=layer, t=t_BKQ: layer.apply(t)))

    def timed(work: Callable[[], object], pixels: int) -> float:
        began = now()
        work()
        return (now() - began) / pixels * 1e9

    pixels = [count * side**2 for count, side in zip(counts, sides, strict=True)]
    times = [
        [[timed(work, size) for work in pair] for pair, size in zip(works, pixels, strict=True)]
        for _ in range(1 + rounds)
    ][1:]
    found = []
    for place, side in enumerate(sides):
        morph, first = (statistics.median(row[place][kind] for row in times) for kind in (0, 1))
        ratios = [statistics.median(row[place][kind] / row[0][kind] for row in times) for kind in (0, 1)]
        found.append(
            PixelTimes(
                side_px=side,
                images=counts[place],
                setup_s=setups[place],
                morph_ns=morph,
                morph_ratio=ratios[0],
                first_layer_ns=first,
                first_layer_ratio=ratios[1],
            )
        )
    return found


def _plot(sizes: list[PixelTimes], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(5, 2.8), layout="constrained")
    sides = [one.side_px for one in sizes]
    axis.plot(sides, [one.morph_ns for one in sizes], marker="o", color="#4477aa", label="morphing, at the site")
    axis.plot(sides, [one.first_layer_ns for one in sizes], marker="s", color="#228833", label="first layer")
    axis.set_xlabel("image side in pixels")
    axis.set_ylabel("ns a pixel")
    axis.set_xticks(sides)
    axis.set_ylim(bottom=0)
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
