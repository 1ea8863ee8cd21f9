"""What a hospital's node takes: memory, start, disk, the set-up of a layer, and its rate of morphing.

    python -m benchmarks.light_nodes [memory|start|size|setup|rate ...] [--images 20000] [--before COMMIT] [--quick]

`memory` is a real run over mutual TLS of one site with so many pictures of CIFAR-10 and a narrow network, looked at
from outside. `start` is processor time of `mple-provider --help`, and of `mple-provider run` up to its first word to
a coordinator that is not there, with a hundred pictures: the least of five. `size` is that of an environment into
which a wheel of this checkout was installed, and nothing else; it needs a package index. `setup` builds a layer where
torch can't be imported. `rate` is normalising, morphing, rounding to q6 and packing, one core, processor time; with a
commit's name beside the same of that commit, in turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, as_installed, machine
from benchmarks.pictures import cifar
from benchmarks.whole_runs import measured_run, scratch
from mple.data import open_source
from mple.pki import throwaway
from mple.plan import DeliverTo, DeliverySettings, ModelSettings, TrainingSettings
from mple.rpc import Party, Role
from mple.simulate.settings import SimulationSettings

_ROOT = Path(__file__).resolve().parents[1]
_STARTS, _TURNS = 5, 3
_TOOLS = {"pip", "setuptools", "pkg_resources"}
"""What Python itself puts into each new environment."""
_SETUP = """
import json, re, sys, time
sys.modules["torch"] = None
import numpy as np
from mple.model.stem import Stem
from mple.morph import PRESETS, ImageShape, MorphKey
from mple.morph.augmented import build_augmented_layer
image, kernels = ImageShape(channels=3, height=32, width=32), Stem.from_seed("s", filters=64, channels=3, kernel=3)
began = time.process_time()
build_augmented_layer(PRESETS[sys.argv[1]], image, kernels.kernels_FCpp, MorphKey(bytes(32)), np.arange(64),
                      session=b"bench", key_epoch=1)
taken = time.process_time() - began
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps({"cpu_s": taken, "peak_mib": int(peak[1]) / 1024}))
"""
_RATE = """
import json, sys, time
import numpy as np
from mple.data.normalise import normalise
from mple.morph import PRESETS, ImageShape, MorphKey
from mple.morph.morpher import Morpher
from mple.plan import NormalisationSettings
from mple.wire.codecs import codec_named
if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(1)
pixels, codec, by = np.load(sys.argv[1]), codec_named("q6"), NormalisationSettings()
found = {}
for preset in ("compact", "distinct"):
    image = ImageShape(channels=3, height=32, width=32)
    morpher = Morpher(PRESETS[preset], image, MorphKey(bytes(32)), session=b"bench", key_epoch=1)
    taken = []
    for low in range(0, len(pixels), 169):
        some, began = pixels[low : low + 169], time.process_time()
        codec.pack(codec.encode(morpher.morph(normalise(some, by))))
        taken.append((time.process_time() - began) / len(some))
    found[preset] = 1 / float(np.median(taken))
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    found: float
    goal: float
    unit: str
    at_least: bool = False
    """Whether the goal is the least that is wanted, or the most."""

    @property
    def held(self) -> bool:
        """Whether the goal is."""
        return self.found >= self.goal if self.at_least else self.found <= self.goal


def main() -> None:
    """Run the benchmark and write `light_nodes.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"which of {', '.join(_PARTS)}; all by default")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--before", help="a commit of this repository, whose rate of morphing is measured in turns")
    parser.add_argument("--quick", action="store_true", help="few pictures, one turn: to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    as_installed()
    unknown = set(options.parts) - set(_PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "light_nodes.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if options.parts and path.exists() else {}
    for name in options.parts or _PARTS:
        rows = _PARTS[name](options)
        parts[name] = [
            {"what": row.what, "found": row.found, "goal": row.goal, "unit": row.unit, "held": row.held} for row in rows
        ]
        print(markdown(rows), flush=True)
        about = {"command": f"python -m benchmarks.{path.stem}", "machine": machine(), "parts": parts}
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """Lines of the table in docs/science/benchmarks.md."""
    lines = []
    for row in rows:
        bound = "at least" if row.at_least else "at most"
        held = "" if row.held else ", not held"
        lines.append(f"| {row.what} | {row.found:,.3g} {row.unit} | {bound} {row.goal:g} {row.unit}{held} |")
    return "\n".join(lines)


def _memory(options: argparse.Namespace) -> list[Row]:
    images = 600 if options.quick else options.images
    settings = SimulationSettings(
        sites=("north",),
        data=cifar(images),
        model=ModelSettings(width=0.0625),
        training=TrainingSettings(epochs=1),
        delivery=DeliverySettings(to=DeliverTo.NONE),
    )
    with scratch(None, "light") as folder:
        use = measured_run(settings, folder / "run", look_every_s=0.2).uses["north"]
    return [
        Row(what=f"resident memory of a site, {images:,} pictures", found=use.peak_rss_mib, goal=110, unit="MiB"),
        Row(what="the same, shared pages by their share", found=use.peak_pss_mib, goal=110, unit="MiB"),
    ]


def _start(_options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        throwaway(folder / "authority", [Party("bench", Role.SITE, "north")], [], [folder / "tls"])
        pixels, labels = np.zeros((100, 32, 32, 3), np.uint8), np.arange(100) % 10
        np.savez(folder / "set.npz", x_train=pixels, y_train=labels, x_test=pixels[:10], y_test=labels[:10])
        (folder / "north.toml").write_text(
            'state = "state"\ntls = "tls"\nvault = "vault"\ncoordinator = "127.0.0.1:1"\ncompute = "127.0.0.1:2"\n'
            'idle_timeout_s = 0.05\n[data]\nkind = "npz"\npath = "set.npz"\n'
        )
        provider = [sys.executable, "-m", "provider_node"]
        shown = min(_cpu_s([*provider, "--help"], (0,)) for _ in range(_STARTS))
        ready = min(_cpu_s([*provider, "run", str(folder / "north.toml")], (4,)) for _ in range(_STARTS))
    return [
        Row(what="mple-provider --help, processor time", found=shown, goal=0.4, unit="s"),
        Row(what="mple-provider run, ready to join", found=ready, goal=0.8, unit="s"),
    ]


def _cpu_s(command: list[str], codes: Sequence[int]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=_environment(_ROOT), capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode not in codes:
        raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _size(_options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(_ROOT)], check=True)
        venv.create(folder / "env", with_pip=True)
        (wheel,) = folder.glob("*.whl")
        own = [str(folder / "env" / "bin" / "python"), *pip[1:]]
        subprocess.run([*own, "install", "-c", str(_ROOT / "constraints.txt"), str(wheel)], check=True)
        sizes = {path: path.lstat().st_blocks * 512 for path in (folder / "env").rglob("*")}
        tools = sum(size for path, size in sizes.items() if _TOOLS & set(path.parts))
    whole = sum(sizes.values())
    return [
        Row(what="an environment with mple alone, but for pip", found=(whole - tools) / 1e6, goal=200, unit="MB"),
        Row(what="the same with pip and setuptools", found=whole / 1e6, goal=200, unit="MB"),
    ]


def _setup(_options: argparse.Namespace) -> list[Row]:
    rows = []
    for preset, seconds, mib in (("compact", 0.1, 2500), ("paper", 5.0, 2500)):
        found = _asked(_SETUP, _ROOT, preset)
        rows += [
            Row(what=f"set-up of a layer, {preset}, processor time", found=found["cpu_s"], goal=seconds, unit="s"),
            Row(what=f"set-up of a layer, {preset}, peak memory", found=found["peak_mib"], goal=mib, unit="MiB"),
        ]
    return rows


def _rate(options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        pixels = Path(name) / "pixels.npy"
        np.save(pixels, open_source(cifar(169 * (4 if options.quick else 40))).train.pixels_NCHW)
        trees = {"now": _ROOT}
        if options.before:
            trees["before"] = Path(name) / "before"
            add = ["git", "-C", str(_ROOT), "worktree", "add", "-q", "--detach", str(trees["before"]), options.before]
            subprocess.run(add, check=True)
        try:
            turns = [
                {which: _asked(_RATE, tree, str(pixels)) for which, tree in trees.items()}
                for _ in range(1 if options.quick else _TURNS)
            ]
        finally:
            if options.before:
                remove = ["git", "-C", str(_ROOT), "worktree", "remove", "--force", str(trees["before"])]
                subprocess.run(remove, check=True)
    rows = []
    for preset in ("compact", "distinct"):
        now = statistics.median(turn["now"][preset] for turn in turns)
        what = f"morph and encode, {preset}, q6"
        rows.append(Row(what=what, found=now, goal=0, unit="pictures a second", at_least=True))
        if options.before:
            ratio = statistics.median(turn["now"][preset] / turn["before"][preset] for turn in turns)
            what = f"the same against {options.before}"
            rows.append(Row(what=what, found=ratio, goal=0.9, unit="of its rate", at_least=True))
    return rows


def _asked(program: str, tree: Path, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, env=_environment(tree), cwd=tree, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}


_PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "memory": _memory,
    "start": _start,
    "size": _size,
    "setup": _setup,
    "rate": _rate,
}


if __name__ == "__main__":
    main()
