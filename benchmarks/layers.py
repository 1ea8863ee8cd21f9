"""How long a training step takes with each kind of augmented layer, beside the plain network.

    python -m benchmarks.layers [--preset NAME ...] [--rounds 8] [--batch 128] [--out docs/benchmarks]

Within a round plain and morphed steps alternate (A B A B ...), so that a machine that speeds up or slows down does
so for both; the ratio is taken round by round and its median is what counts. A step is what the compute node does for
one batch: decode q8 codes, first layer, trunk forward and backward, optimiser. The plain step reads pixels instead of
codes. Set-up (drawing the core, building the layer) is timed once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from mple.model import Stem, TrunkTrainer, Vgg16Config, build_trunk
from mple.morph import PRESETS, AugmentedLayer, ImageShape, Morpher, MorphKey, build_augmented_layer, draw_order
from mple.plan import Precision, TrainingSettings
from mple.wire import EncodedSamples, codec_named

mpl.use("Agg")
from matplotlib import pyplot as plt

_IMAGE = ImageShape(channels=3, height=32, width=32)


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetTimes:
    """One preset against the plain network."""

    preset: str
    layer_mib: float
    setup_s: float
    """Drawing the core and building the layer."""
    step_ratio: float
    """Median over rounds of morphed step time over plain step time."""
    step_ratio_low: float
    step_ratio_high: float
    plain_step_s: float
    morphed_step_s: float


def main() -> None:
    """Run the benchmark and write `layers.json` and `layers.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", nargs="*", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", type=Precision, default=Precision.BF16, choices=list(Precision))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    results = [_measure(name, options.rounds, options.batch, options.precision) for name in options.preset]
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.layers --rounds {options.rounds} --batch {options.batch}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "precision": options.precision,
        "presets": [asdict(result) for result in results],
    }
    (options.out / "layers.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    _plot(results, options.out / "layers.png")


def _measure(name: str, rounds: int, batch: int, precision: Precision) -> PresetTimes:
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3)
    key = MorphKey.generate()
    began = time.perf_counter()
    order = draw_order(bytes(32), "channel order", 64)
    layer = build_augmented_layer(PRESETS[name], _IMAGE, stem.kernels_FCpp, key, order, session=b"bench", key_epoch=1)
    setup_s = time.perf_counter() - began
    settings = TrainingSettings(precision=precision)
    generator = np.random.Generator(np.random.PCG64(1))
    pixels = torch.from_numpy(generator.integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, 10, batch))
    t_BKQ = Morpher(PRESETS[name], _IMAGE, key, session=b"bench", key_epoch=1).morph(_normalised(pixels))
    coded = codec_named("q8").encode(t_BKQ.flatten(1))
    plain = _step(settings, lambda: stem.convolve(_normalised(pixels)), labels)
    morphed = _step(settings, lambda: _first_layer(layer, coded), labels)
    plain()
    morphed()
    pairs = [(plain(), morphed()) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    result = PresetTimes(
        preset=name,
        layer_mib=layer.weight.nbytes / 2**20,
        setup_s=setup_s,
        step_ratio=statistics.median(ratios),
        step_ratio_low=min(ratios),
        step_ratio_high=max(ratios),
        plain_step_s=statistics.median(a for a, _ in pairs),
        morphed_step_s=statistics.median(b for _, b in pairs),
    )
    print(
        f"{name:9} layer {result.layer_mib:7.1f} MiB, set-up {setup_s:6.2f} s, step "
        f"{result.step_ratio:.3f} x plain ({result.step_ratio_low:.3f} to {result.step_ratio_high:.3f})"
    )
    return result


def _step(settings: TrainingSettings, first: Callable[[], Tensor], labels: Tensor) -> Callable[[], float]:
    trainer = TrunkTrainer(build_trunk(Vgg16Config(classes=10), 1), settings, 1000)

    def timed() -> float:
        began = time.perf_counter()
        with torch.no_grad(), trainer.autocast():
            f_BFHW = first()
        trainer.step(f_BFHW, labels)
        return time.perf_counter() - began

    return timed


def _first_layer(layer: AugmentedLayer, coded: EncodedSamples) -> Tensor:
    return layer.apply(codec_named("q8").decode(coded).view(len(coded.codes_BV), -1, _core_side(layer)))


def _core_side(layer: AugmentedLayer) -> int:
    return layer.weight.shape[0] if layer.weight.ndim != 3 else layer.weight.shape[1]


def _normalised(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255).sub_(0.5).div_(0.25)


def _plot(results: list[PresetTimes], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
    names = [result.preset for result in results]
    ratios = np.array([result.step_ratio for result in results])
    spread = np.array([[r.step_ratio - r.step_ratio_low, r.step_ratio_high - r.step_ratio] for r in results]).T
    axis.barh(names, ratios, xerr=spread, color="#4477aa", ecolor="#333333", capsize=3)
    axis.axvline(1.0, color="#aa3377", linewidth=1)
    axis.set_xlabel("training step, morphed over plain (median, whiskers: extremes)")
    axis.invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
