"""Feeding without a pause: do memory, descriptors and threads stay where they are?

    python -m benchmarks.soak [--minutes 30] [--out results/benchmarks]

One process feeds as a site, one takes in as a compute node, over mutual TLS: morphing, codec, stream, intake, cache
and both ledgers are those of a run, only training is left out. A round is one run's worth of samples; a new round has
a new intake, a new cache file and a new release book. This process looks at both every few seconds. The first part is
warm-up; through the rest a line is fitted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.feeding_nodes import COMPUTE, ROUND_SAMPLES, SITE, lay_out
from benchmarks.machine import RESULTS
from mple.plan import WireSettings
from mple.simulate.children import tied

mpl.use("Agg")
from matplotlib import pyplot as plt

_LOOK_EVERY_S = 5.0
_MOST_WARM_UP_S = 300.0
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A process at one moment."""

    at_s: float
    rss_mib: float
    descriptors: int
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Soaked:
    """One process over all the time."""

    name: str
    slope_mib_per_minute: float
    """Of the line through its resident memory after the warm-up."""
    rss_mib_least: float
    """After the warm-up, as all that follows."""
    rss_mib_most: float
    descriptors_least: int
    descriptors_most: int
    threads_least: int
    threads_most: int
    looks: list[Look] = field(default_factory=list)


def main() -> None:
    """Run the benchmark and write `soak.json` and `soak.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks, samples, elapsed_s = _watch(Path(folder), 60 * arguments.minutes)
    warm_up_s = min(_MOST_WARM_UP_S, 0.25 * elapsed_s)
    results = [_summed_up(name, seen, warm_up_s) for name, seen in looks.items()]
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    document = {
        "minutes": elapsed_s / 60,
        "warm_up_minutes": warm_up_s / 60,
        "samples": samples,
        "images_per_second": samples / elapsed_s,
        "round_samples": ROUND_SAMPLES,
        "image": [3, 32, 32],
        "codec": WireSettings().codec,
        "machine": machine,
        "processes": [asdict(result) for result in results],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "soak.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _plot(results, warm_up_s, arguments.out / "soak.png")
    print(f"{samples:,} images in {elapsed_s / 60:.1f} min, {samples / elapsed_s:,.0f} images/s")
    for result in results:
        print(
            f"{result.name:8} {result.slope_mib_per_minute:+.3f} MiB/min, "
            f"{result.rss_mib_least:.0f} to {result.rss_mib_most:.0f} MiB, "
            f"{result.descriptors_least} to {result.descriptors_most} descriptors, "
            f"{result.threads_least} to {result.threads_most} threads"
        )


def _watch(folder: Path, seconds: float) -> tuple[dict[str, list[Look]], int, float]:
    """Looks at both processes, samples taken in, and the time from the first whole round on."""
    generator = np.random.Generator(np.random.PCG64(1))
    pixels = generator.integers(0, 256, (ROUND_SAMPLES, 32, 32, 3), np.uint8)
    lay_out(folder, pixels, generator.integers(0, 10, ROUND_SAMPLES), WireSettings().codec)
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    counted = folder / "samples"
    with contextlib.ExitStack() as stack:
        nodes = {}
        for role in (COMPUTE, SITE):
            command = [sys.executable, "-m", "benchmarks.feeding_nodes", role, str(folder)]
            nodes[role] = stack.enter_context(subprocess.Popen(tied(command), env=environment))
            stack.callback(nodes[role].terminate)
        _await(counted, nodes)
        began_s, before = time.monotonic(), int(counted.read_text())
        looks: dict[str, list[Look]] = {name: [] for name in nodes}
        for number in itertools.count():
            time.sleep(max(0.0, began_s + number * _LOOK_EVERY_S - time.monotonic()))
            _require_running(nodes)
            elapsed_s = time.monotonic() - began_s
            for name, node in nodes.items():
                looks[name].append(_look(node.pid, elapsed_s))
            if elapsed_s >= seconds:
                return looks, int(counted.read_text()) - before, elapsed_s
    raise AssertionError("the loop returns")


def _await(path: Path, nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    while not path.exists():
        _require_running(nodes)
        time.sleep(0.05)


def _require_running(nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, node in nodes.items():
        if node.poll() is not None:
            raise SystemExit(f"the {name} process ended with code {node.returncode}")


def _look(pid: int, at_s: float) -> Look:
    process = Path(f"/proc/{pid}")
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Look(
        at_s=round(at_s, 2),
        rss_mib=round(int(fields["VmRSS"].split()[0]) * 1024 / _MIB, 3),
        descriptors=len(list((process / "fd").iterdir())),
        threads=int(fields["Threads"]),
    )


def _summed_up(name: str, looks: list[Look], warm_up_s: float) -> Soaked:
    warm = [look for look in looks if look.at_s >= warm_up_s]
    minutes: NDArray[np.float64] = np.array([look.at_s / 60 for look in warm])
    rss: NDArray[np.float64] = np.array([look.rss_mib for look in warm])
    descriptors, threads = [look.descriptors for look in warm], [look.threads for look in warm]
    return Soaked(
        name=name,
        slope_mib_per_minute=float(np.polyfit(minutes, rss, 1)[0]),
        rss_mib_least=float(rss.min()),
        rss_mib_most=float(rss.max()),
        descriptors_least=min(descriptors),
        descriptors_most=max(descriptors),
        threads_least=min(threads),
        threads_most=max(threads),
        looks=looks,
    )


def _plot(results: list[Soaked], warm_up_s: float, path: Path) -> None:
    figure, (memory, counts) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for result, colour in zip(results, ("#4477aa", "#aa3377"), strict=True):
        minutes = [look.at_s / 60 for look in result.looks]
        slope = f"{result.slope_mib_per_minute:+.3f} MiB/min"
        memory.plot(minutes, [look.rss_mib for look in result.looks], color=colour, label=f"{result.name}, {slope}")
        counts.plot(minutes, [look.descriptors for look in result.looks], color=colour, label=f"{result.name} files")
        threads = [look.threads for look in result.looks]
        counts.plot(minutes, threads, color=colour, linestyle=":", label=f"{result.name} threads")
    memory.axvline(warm_up_s / 60, color="#999999", linewidth=1)
    memory.set_ylabel("resident MiB")
    counts.set_ylabel("open descriptors, threads")
    for axis in (memory, counts):
        axis.set_ylim(bottom=0)
        axis.set_xlabel("minutes")
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
