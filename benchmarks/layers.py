"""What each kind of augmented layer costs beside the plain network: a training step, setting it up, memory.

    python -m benchmarks.layers [--preset NAME ...] [--rounds 16] [--batch 128] [--sites 1 3 32] [--processor-time]
                                [--layer-codec k5.5] [--out results/benchmarks]

Within a round steps alternate (plain, one site, three sites, ..., plain, one site, ...), so that a machine that speeds
up or slows down does so for all; the ratio to the round's plain step is taken round by round and its median is what
counts. A step is what the compute node does for one batch: decode codes, first layer, trunk forward and backward,
optimiser. The plain step reads pixels instead of codes and is that of `mple plain`, features channels last too. With
several sites every site has a layer of its own, and each batch holds samples of all of them in turn.

`--processor-time` is for a machine that is busy with other things: one thread, and the time that it has run instead of
the time that has passed.

Then, for every preset with orthogonal cores and both stems, what a layer takes as it travels and how far it puts the
features of CIFAR-10 off (`benchmarks.layer_bytes`): for morphed values, and for coefficients as `int8` and as `coded`.
`--rounds 0` leaves the steps out.

Each preset is measured in a process of its own, which first sets one layer up (draws the core, builds the layer,
prepares it) and tells its time and the largest memory of the process until then.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from benchmarks.layer_bytes import layer_bytes, line
from benchmarks.machine import RESULTS, machine
from compute_node.training.features import features
from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.first_layer.plain import plain_features
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.model.settings import ModelSettings
from mple.model.stem import planned_stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import PRESETS, Arithmetic, Ensemble, ImageShape, MorphKey, draw_order
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import Precision, TrainingSettings, WireSettings
from mple.simulate.children import tied
from mple.wire.codecs import codec_named

mpl.use("Agg")
from matplotlib import pyplot as plt

_IMAGE = ImageShape(channels=3, height=32, width=32)
_STEM = planned_stem(ModelSettings(), filters=64, channels=3)
_MOST_LAYERS_MIB = 4096
"""A case whose layers would take more is left out."""
_SETTINGS = TrainingSettings(precision=Precision.BF16)
_CASES = {name: (name, _SETTINGS.first_layer) for name in PRESETS} | {"paper-bf16": ("paper", Arithmetic.BF16)}
"""Presets as a bf16 run has them by default, and what else is worth knowing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Steps with layers of so many sites against plain steps."""

    sites: int
    ratio: float
    """Median over rounds of morphed step time over plain step time."""
    ratio_low: float
    """Lower quartile."""
    ratio_high: float
    """Upper quartile."""
    plain_step_s: float
    morphed_step_s: float
    plain_first_s: float
    """Reading and the first layer alone, medians as well: the rest of both steps is the same work."""
    morphed_first_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCosts:
    """One kind of layer."""

    name: str
    build_s: float
    """Drawing the core and building the float32 layer, at whoever makes it."""
    prepare_s: float
    """Rounding and laying it out, at the compute node."""
    before_mib: float
    """Largest memory of the process before."""
    peak_mib: float
    """Largest memory of the process after both."""
    layer_mib: float
    """The layer in float32."""
    held_mib: float
    """The prepared layer, which is all that the compute node keeps, for each site."""
    steps: tuple[StepTimes, ...]


def main() -> None:
    """Run the benchmark and write `layers.json` and `layers.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", nargs="*", default=list(_CASES), choices=list(_CASES))
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sites", type=int, nargs="*", default=[1, 3, 32])
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--layer-codec", default="k5.5", help="of the coefficients that layers are compared for")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", choices=list(_CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    threads = 1 if options.processor_time else os.cpu_count() or 1
    if options.measure:
        torch.set_num_threads(threads)
        now = time.thread_time if options.processor_time else time.perf_counter
        print(json.dumps(asdict(_measure(options.measure, options.rounds, options.batch, options.sites, now))))
        return
    results = []
    for name in options.preset if options.rounds else ():
        command = [sys.executable, "-m", "benchmarks.layers", *sys.argv[1:], "--measure", name]
        told = subprocess.run(tied(command), check=True, stdout=subprocess.PIPE).stdout
        results.append(json.loads(told))
        print(_line(results[-1]), flush=True)
    sizes = []
    data = open_source(Cifar10Source(most_train=2200), options.out)
    x_NCHW = normalise(data.train.pixels_NCHW, NormalisationSettings())
    for name in options.preset:
        if name in PRESETS and PRESETS[name].ensemble is Ensemble.ORTHOGONAL:
            for stem in ("seed", "whitening"):
                sizes += layer_bytes(name, stem, options.layer_codec, x_NCHW)
                print("\n".join(map(line, sizes[-3:])), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.layers", *sys.argv[1:]]),
        "machine": machine(),
        "threads": threads,
        "clock": "processor time" if options.processor_time else "time passed",
        "precision": _SETTINGS.precision,
        "layer_arithmetic": _SETTINGS.first_layer,
        "codec": WireSettings().codec,
        "layers": results,
        "bytes": [asdict(size) for size in sizes],
    }
    (options.out / "layers.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if results:
        _plot(results, options.out / "layers.png")


def _measure(name: str, rounds: int, batch: int, site_counts: list[int], now: Callable[[], float]) -> LayerCosts:
    preset, arithmetic = _CASES[name]
    keys = [MorphKey.generate() for _ in range(max(site_counts))]
    before_mib = _peak_mib()
    began = now()
    raw = _built(preset, keys[0])
    built = now()
    layer_mib = raw.weight.nbytes / 2**20
    layers = {0: prepare_layer(raw, arithmetic)}
    prepared = now()
    del raw
    peak_mib, held_mib = _peak_mib(), layers[0].held_bytes / 2**20
    site_counts = [count for count in site_counts if count == 1 or count * held_mib <= _MOST_LAYERS_MIB]
    for place in range(1, max(site_counts)):
        layers[place] = prepare_layer(_built(preset, keys[place]), arithmetic)
    return LayerCosts(
        name=name,
        build_s=built - began,
        prepare_s=prepared - built,
        before_mib=before_mib,
        peak_mib=peak_mib,
        layer_mib=layer_mib,
        held_mib=held_mib,
        steps=_step_times(preset, keys[0], layers, rounds, batch, site_counts, now),
    )


def _built(preset: str, key: MorphKey) -> AugmentedLayer:
    order = draw_order(bytes(32), "channel order", _STEM.filters)
    return build_augmented_layer(PRESETS[preset], _IMAGE, _STEM.kernels_FCpp, key, order, session=b"bench", key_epoch=1)


def _step_times(
    preset: str,
    key: MorphKey,
    layers: dict[int, PreparedLayer],
    rounds: int,
    batch: int,
    sites: list[int],
    now: Callable[[], float],
) -> tuple[StepTimes, ...]:
    generator = np.random.Generator(np.random.PCG64(1))
    pixels_BCHW = generator.integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    labels_B = torch.from_numpy(generator.integers(0, 10, batch))
    normalisation = NormalisationSettings(mean=(0.5,), std=(0.25,))
    codec = codec_named(WireSettings().codec)
    # All samples as the first site morphs them: what they say does not matter for how long a step takes.
    morpher = Morpher(PRESETS[preset], _IMAGE, key, session=b"bench", key_epoch=1)
    coded, blocks = codec.encode(morpher.morph(normalise(pixels_BCHW, normalisation))), morpher.geometry.blocks
    del morpher

    def morphed(count: int) -> Callable[[], Tensor]:
        keys_B = np.arange(batch) % count
        return lambda: features(torch.from_numpy(codec.decode(coded, blocks)), keys_B, layers)

    firsts = [
        lambda: plain_features(_STEM, torch.from_numpy(normalise(pixels_BCHW, normalisation))),
        *map(morphed, sites),
    ]
    steps = [_step(first, labels_B, now) for first in firsts]
    times = [[step() for step in steps] for _ in range(1 + rounds)][1:]
    found = []
    for place, count in enumerate(sites, start=1):
        ratios = [row[place].step_s / row[0].step_s for row in times]
        low, _, high = statistics.quantiles(ratios, n=4)
        found.append(
            StepTimes(
                sites=count,
                ratio=statistics.median(ratios),
                ratio_low=low,
                ratio_high=high,
                plain_step_s=statistics.median(row[0].step_s for row in times),
                morphed_step_s=statistics.median(row[place].step_s for row in times),
                plain_first_s=statistics.median(row[0].first_s for row in times),
                morphed_first_s=statistics.median(row[place].first_s for row in times),
            )
        )
    return tuple(found)


def _step(first: Callable[[], Tensor], labels_B: Tensor, now: Callable[[], float]) -> Callable[[], _Step]:
    trainer = TrunkTrainer(build_trunk(ModelSettings(), 10, 1), _SETTINGS, 1000)

    def timed() -> _Step:
        began = now()
        with torch.no_grad(), trainer.autocast():
            f_BFHW = first()
        first_s = now() - began
        trainer.step(f_BFHW, labels_B)
        return _Step(first_s, now() - began)

    return timed


@dataclass(frozen=True, slots=True)
class _Step:
    first_s: float
    step_s: float


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _line(layer: dict[str, Any]) -> str:
    steps = ", ".join(
        f"{step['ratio']:.3f} ({step['ratio_low']:.3f} to {step['ratio_high']:.3f}) with {step['sites']} "
        f"[first layer {step['plain_first_s'] * 1e3:.1f} -> {step['morphed_first_s'] * 1e3:.1f} ms]"
        for step in layer["steps"]
    )
    return (
        f"{layer['name']:10} {layer['layer_mib']:5.0f} MiB, kept {layer['held_mib']:5.1f}; "
        f"set-up {layer['build_s']:.2f} + {layer['prepare_s']:.2f} s, peak {layer['peak_mib']:.0f} MiB; step {steps}"
    )


def _plot(layers: list[dict[str, Any]], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    names = [layer["name"] for layer in layers]
    counts = sorted({step["sites"] for layer in layers for step in layer["steps"]})
    height = 0.8 / len(counts)
    for place, (count, colour) in enumerate(zip(counts, ("#4477aa", "#66ccee", "#228833", "#ccbb44"), strict=False)):
        chosen = [(i, step) for i, layer in enumerate(layers) for step in layer["steps"] if step["sites"] == count]
        at = [i + (place - (len(counts) - 1) / 2) * height for i, _ in chosen]
        ratios = np.array([step["ratio"] for _, step in chosen])
        lows, highs = (np.array([step[f"ratio_{end}"] for _, step in chosen]) for end in ("low", "high"))
        spread = np.stack([ratios - lows, highs - ratios])
        label = f"{count} site{'s' if count > 1 else ''}"
        axis.barh(at, ratios, height, xerr=spread, color=colour, ecolor="#333333", capsize=2, label=label)
    axis.axvline(1.0, color="#aa3377", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("training step, morphed over plain (median, whiskers: quartiles)")
    axis.legend(loc="lower right")
    axis.invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
