"""How many pictures a second come in, without training: morph, code, pack, mutual TLS, unpack, cache, read, decode.

    python -m benchmarks.ingest [--codecs q8 ...] [--rounds 3] [--seconds 10] [--out results/benchmarks]

A site and a compute node, each a process of its own with one thread for arithmetic, on real pictures of CIFAR-10; all
that a run does with a picture is done but the training. Within a round the codecs take turns. Processor time is that of
both processes, user and system, per picture; the profile times each stage by itself, on one core and in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.coded_pictures import site_coding
from benchmarks.feeding_nodes import COMPUTE, ROUND_SAMPLES, SITE, lay_out
from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.plan import WireSettings
from mple.simulate.children import tied
from mple.v1 import common_pb2
from mple.wire.batch import Batch, batch_from_message, batch_to_message
from mple.wire.codec import EncodedSamples
from mple.wire.label_form import CLASS_NUMBERS
from mple.wire.names import CODECS

mpl.use("Agg")
from matplotlib import pyplot as plt

_T = TypeVar("_T")
_ASKED = 15_000
_MESSAGE_SAMPLES = 128
_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """One codec, over all rounds."""

    codec: str
    images_per_second: float
    """Median of the rounds."""
    images_per_second_low: float
    images_per_second_high: float
    site_cpu_us_per_image: float
    compute_cpu_us_per_image: float
    stages_us_per_image: dict[str, float]


def main() -> None:
    """Run the benchmark and write `ingest.json` and `ingest.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = WireSettings().codec
    parser.add_argument("--codecs", nargs="*", default=list(dict.fromkeys(["q6", default])), choices=CODECS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = open_source(Cifar10Source(most_train=ROUND_SAMPLES, most_test=1)).train
    pictures = train.take(np.arange(ROUND_SAMPLES))
    found: dict[str, list[tuple[float, float, float]]] = {codec: [] for codec in options.codecs}
    for _ in range(options.rounds):
        for codec in options.codecs:
            with tempfile.TemporaryDirectory() as folder:
                lay_out(Path(folder), pictures.pixels_NCHW.transpose(0, 2, 3, 1), pictures.labels, codec)
                found[codec].append(_fed(Path(folder), options.seconds))
    results = [_summed_up(codec, rounds, pictures.pixels_NCHW) for codec, rounds in found.items()]
    about = {
        "command": f"python -m benchmarks.ingest --rounds {options.rounds} --seconds {options.seconds:g}",
        "machine": machine(),
        "image": [3, 32, 32],
        "codecs": [asdict(result) for result in results],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ingest.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    _plot(results, options.out / "ingest.png")


def _fed(folder: Path, seconds: float) -> tuple[float, float, float]:
    """Images a second, and processor seconds an image of site and compute node."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    counted = folder / "samples"
    with contextlib.ExitStack() as stack:
        nodes = {}
        for role in (SITE, COMPUTE):  # ended in the other order: the site is used to a compute node that is not there
            command = [sys.executable, "-m", "benchmarks.feeding_nodes", role, str(folder)]
            nodes[role] = stack.enter_context(subprocess.Popen(tied(command), env=environment))
            stack.callback(nodes[role].terminate)
        _next_count(counted, 0, nodes)  # the first round warms up
        first, began_s, cpu_s = _next_count(counted, int(counted.read_text()), nodes), time.monotonic(), _cpu_s(nodes)
        last = first
        while time.monotonic() - began_s < seconds:
            last = _next_count(counted, last, nodes)
        elapsed_s, used_s = time.monotonic() - began_s, _cpu_s(nodes)
    images = last - first
    return images / elapsed_s, *((used_s[role] - cpu_s[role]) / images for role in (SITE, COMPUTE))


def _next_count(path: Path, before: int, nodes: dict[str, subprocess.Popen[bytes]]) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):
            count = int(path.read_text())
            if count > before:
                return count
        for name, node in nodes.items():
            if node.poll() is not None:
                raise SystemExit(f"the {name} process ended with code {node.returncode}")
        time.sleep(0.002)


def _cpu_s(nodes: dict[str, subprocess.Popen[bytes]]) -> dict[str, float]:
    ticks = os.sysconf("SC_CLK_TCK")
    spent = {}
    for role, node in nodes.items():
        fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
        spent[role] = (int(fields[11]) + int(fields[12])) / ticks  # user and system time, proc(5)
    return spent


def _summed_up(name: str, rounds: list[tuple[float, float, float]], pixels: NDArray[np.uint8]) -> Rate:
    rates, site_s, compute_s = zip(*rounds, strict=True)
    result = Rate(
        codec=name,
        images_per_second=statistics.median(rates),
        images_per_second_low=min(rates),
        images_per_second_high=max(rates),
        site_cpu_us_per_image=1e6 * statistics.median(site_s),
        compute_cpu_us_per_image=1e6 * statistics.median(compute_s),
        stages_us_per_image=_stages(name, pixels[: 16 * _MESSAGE_SAMPLES]),
    )
    print(
        f"{name:3} {result.images_per_second:8,.0f} images/s ({min(rates):,.0f} to {max(rates):,.0f}), processor time "
        f"{result.site_cpu_us_per_image:.0f} us an image at the site, {result.compute_cpu_us_per_image:.0f} us at the "
        f"compute node; alone: {', '.join(f'{k} {v:.1f}' for k, v in result.stages_us_per_image.items())} us"
    )
    return result


def _stages(name: str, pixels_NCHW: NDArray[np.uint8]) -> dict[str, float]:
    """Microseconds of processor time an image of each stage by itself, medians over messages."""
    normalisation = NormalisationSettings()
    coding = site_coding(name, normalise(pixels_NCHW, normalisation))
    codec, morpher = coding.codec, coding.morpher
    key_ref = common_pb2.KeyRef(site=SITE, epoch=1, fingerprint=bytes(32))
    labels_B = np.zeros(_MESSAGE_SAMPLES, np.uint16)
    split = common_pb2.SPLIT_TRAIN
    times: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[[], _T]) -> _T:
        began = time.thread_time()
        result = work()
        times.setdefault(stage, []).append(time.thread_time() - began)
        return result

    for low in range(0, len(pixels_NCHW), _MESSAGE_SAMPLES):
        some = pixels_NCHW[low : low + _MESSAGE_SAMPLES]
        t_BKQ = timed("morph", lambda some=some: morpher.morph(normalise(some, normalisation)))
        coded: EncodedSamples = timed("encode", lambda t=t_BKQ: codec.encode(t))
        message = timed(
            "pack",
            lambda c=coded: batch_to_message(
                Batch(c, labels_B), request_id=1, key_ref=key_ref, split=split, codec=codec
            ).SerializeToString(),
        )
        batch = timed(
            "unpack",
            lambda m=message, t=t_BKQ: batch_from_message(
                common_pb2.MorphedBatch.FromString(m),
                samples=_MESSAGE_SAMPLES,
                blocks=t.shape[1],
                values=codec.values(morpher.geometry),
                codec=codec,
                labels=CLASS_NUMBERS,
            ),
        )
        timed("decode", lambda b=batch, t=t_BKQ: codec.decode(b.coded, t.shape[1]))
    return {stage: 1e6 * statistics.median(seconds) / _MESSAGE_SAMPLES for stage, seconds in times.items()}


def _plot(results: list[Rate], path: Path) -> None:
    figure, (rates, stages) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    names = [result.codec for result in results]
    values = np.array([result.images_per_second for result in results])
    spread = np.array([[r.images_per_second_low, r.images_per_second_high] for r in results]).T - values
    rates.bar(names, values, yerr=abs(spread), color="#4477aa", ecolor="#333333", capsize=3)
    rates.axhline(_ASKED, color="#aa3377", linewidth=1, label=f"{_ASKED:,}")
    rates.set_ylabel("images a second")
    rates.set_ylim(top=1.25 * values.max())
    rates.legend(fontsize=8)
    rates.set_xlabel("median; whiskers: extremes")
    left = np.zeros(len(results))
    for stage, colour in zip(results[0].stages_us_per_image, _COLOURS, strict=True):
        width = np.array([result.stages_us_per_image[stage] for result in results])
        stages.barh(names, width, left=left, label=stage, color=colour)
        left += width
    stages.set_xlabel("us an image on one core, stage by stage")
    stages.set_ylim(-0.5, len(results) + 0.3)
    stages.legend(fontsize=7, ncols=5, loc="upper center")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
