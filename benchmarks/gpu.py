"""A training step on a CUDA device, morphed beside plain: time, ratio, memory.

    python -m benchmarks.gpu [--preset NAME ...] [--rounds 16] [--batch 128] [--sites 3] [--width 1.0] [--device cuda]
                             [--quick] [--out results/benchmarks]

A: a step of `mple plain`, from pixels. B: what the compute node does for one batch: decode codes, send them to the
device, first layer under the layers of all sites, trunk forward and backward, optimiser. A B A B: the ratio is taken
round by round, its median counts. A second figure leaves out decoding, which in a run goes on in a thread beside the
steps. Times are taken when the device has finished. Each preset has a process of its own, so that memory is its own.

Without a CUDA device it says so and ends with code 77. `--device cpu` runs the same steps on the processor, to see that
they work; its memory is not told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import RESULTS, machine
from compute_node.training.features import features
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.device import Device, DeviceError
from mple.model.first_layer.plain import plain_features
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import DeviceName, ModelSettings, Precision, TrainingSettings
from mple.model.stem import Stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import PRESETS, ImageShape, MorphKey, draw_order
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import WireSettings
from mple.simulate.children import tied
from mple.wire.codecs import codec_named

SKIPPED = 77
"""Exit code of a benchmark that this machine can't run, as test harnesses know it."""
_IMAGE = ImageShape(channels=3, height=32, width=32)
_PRESETS = ("compact", "distinct", "paper")
_WARMING = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCosts:
    """One preset in one precision."""

    preset: str
    precision: str
    plain_step_s: float
    """Medians over the rounds, as the others."""
    morphed_step_s: float
    ratio: float
    ratio_low: float
    """Quartiles over the rounds."""
    ratio_high: float
    ahead_ratio: float
    """With samples decoded and sent before."""
    layers_mib: float
    """What the layers of all sites take."""
    plain_peak_mib: float | None
    """Most of the device's memory that torch has held, by torch's count; None on the processor."""
    morphed_peak_mib: float | None


def main() -> int:
    """Run the benchmark and write `gpu.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=_PRESETS, nargs="*", default=list(_PRESETS))
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--device", type=DeviceName, default=DeviceName.CUDA)
    parser.add_argument("--quick", action="store_true", help="two rounds of a narrow network, to see that it works")
    parser.add_argument("--alone", nargs=2, metavar=("PRESET", "PRECISION"), help="in this process, for the others")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batch, options.width = 2, 32, 0.125
    try:
        device = Device.named(options.device)
    except DeviceError as none:
        print(f"skipped: {none}", file=sys.stderr)
        return SKIPPED
    if options.alone is not None:
        preset, precision = options.alone
        costs = _costs(device, preset, Precision(precision), options)
        print(json.dumps(asdict(costs)))
        return 0
    words = ["--rounds", options.rounds, "--batch", options.batch, "--sites", options.sites, "--width", options.width]
    words = [*map(str, words), "--device", str(options.device)]
    found = []
    for preset in options.preset:
        for precision in Precision:
            command = [sys.executable, "-m", "benchmarks.gpu", *words, "--alone", preset, precision]
            ended = subprocess.run(tied(command), stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(ended.stdout.splitlines()[-1]))
            print(_line(StepCosts(**found[-1])), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.gpu {' '.join(words)}",
        "machine": machine(),
        "device": device.name,
        "steps": found,
    }
    (options.out / "gpu.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0


def _costs(device: Device, preset: str, precision: Precision, options: argparse.Namespace) -> StepCosts:
    generator = np.random.Generator(np.random.PCG64(1))
    pixels_BCHW = generator.integers(0, 256, (options.batch, 3, 32, 32), dtype=np.uint8)
    labels_B = torch.from_numpy(generator.integers(0, 10, options.batch))
    normalisation, codec = NormalisationSettings(), codec_named(WireSettings().codec)
    model = ModelSettings(width=options.width)
    stem = Stem.from_seed("mple-stem-1", filters=model.filters, channels=3, kernel=3)
    settings = TrainingSettings(precision=precision)

    def trainer() -> TrunkTrainer:
        return TrunkTrainer(build_trunk(model, 10, 1), settings, 1000, device)

    plain = trainer()

    def from_pixels() -> Tensor:
        return plain_features(stem, device.place(torch.from_numpy(normalise(pixels_BCHW, normalisation))))

    steps = [_step(device, plain, from_pixels, labels_B)]
    for _ in range(_WARMING):
        steps[0]()
    plain_peak_mib = _peak_mib(device)
    layers, order = {}, draw_order(bytes(32), "channel order", model.filters)
    for number in range(options.sites):
        key = MorphKey(bytes([number]) * 32)
        raw = build_augmented_layer(
            PRESETS[preset], _IMAGE, stem.kernels_FCpp, key, order, session=b"bench", key_epoch=1
        )
        layers[number] = prepare_layer(raw, settings.first_layer, device)
        del raw
    # All samples as the first site morphs them: what they say does not matter for how long a step takes.
    morpher = Morpher(PRESETS[preset], _IMAGE, MorphKey(bytes(32)), session=b"bench", key_epoch=1)
    coded, blocks = codec.encode(morpher.morph(normalise(pixels_BCHW, normalisation))), morpher.geometry.blocks
    keys_B = np.arange(options.batch) % options.sites
    (before,) = device.send(torch.from_numpy(codec.decode(coded, blocks))).received()

    def from_codes() -> Tensor:
        (t_BKQ,) = device.send(torch.from_numpy(codec.decode(coded, blocks))).received()
        return features(t_BKQ, keys_B, layers)

    morphed = trainer()
    steps.append(_step(device, morphed, from_codes, labels_B))
    steps.append(_step(device, morphed, lambda: features(before, keys_B, layers), labels_B))
    times = [[step() for step in steps] for _ in range(_WARMING + options.rounds)][_WARMING:]
    ratios = [whole / alone for alone, whole, _ in times]
    low, _, high = statistics.quantiles(ratios, n=4)
    return StepCosts(
        preset=preset,
        precision=precision,
        plain_step_s=statistics.median(row[0] for row in times),
        morphed_step_s=statistics.median(row[1] for row in times),
        ratio=statistics.median(ratios),
        ratio_low=low,
        ratio_high=high,
        ahead_ratio=statistics.median(row[2] / row[0] for row in times),
        layers_mib=sum(one.held_bytes for one in layers.values()) / 2**20,
        plain_peak_mib=plain_peak_mib,
        morphed_peak_mib=_peak_mib(device),
    )


def _step(device: Device, trainer: TrunkTrainer, first: Callable[[], Tensor], labels_B: Tensor) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        with torch.no_grad(), trainer.autocast():
            f_BFHW = first()
        trainer.step(f_BFHW, labels_B)
        if device.memory() is not None:
            torch.cuda.synchronize(device.torch_device)
        return time.perf_counter() - began

    return timed


def _peak_mib(device: Device) -> float | None:
    if device.memory() is None:
        return None
    peak = torch.cuda.max_memory_allocated(device.torch_device) / 2**20
    torch.cuda.reset_peak_memory_stats(device.torch_device)
    return peak


def _line(costs: StepCosts) -> str:
    peak = (
        ""
        if costs.morphed_peak_mib is None
        else f", peak {costs.plain_peak_mib:.0f} -> {costs.morphed_peak_mib:.0f} MiB"
    )
    return (
        f"{costs.preset:9} {costs.precision:5} {costs.plain_step_s * 1e3:.1f} -> {costs.morphed_step_s * 1e3:.1f} ms, "
        f"ratio {costs.ratio:.3f} ({costs.ratio_low:.3f} to {costs.ratio_high:.3f}), "
        f"{costs.ahead_ratio:.3f} with samples ahead; layers {costs.layers_mib:.1f} MiB{peak}"
    )


if __name__ == "__main__":
    sys.exit(main())
