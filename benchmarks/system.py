"""The whole system against one process that trains the same plan on the plain pictures, on the same cores.

    python -m benchmarks.system [--rounds 4] [--images 3000] [--epochs 2] [--quick] [--out results/benchmarks]

A: `mple plain`, one process with all cores to itself. B: `mple simulate`, a coordinator, a compute node and three sites
over mutual TLS, everything included: morphing, coding, transport, decoding, ledgers, checkpoints. A B A in each round,
same pictures, same steps; ratios are taken round by round. The first A has OpenMP's threads spin a while when they
wait, as is their default, the second has them sleep at once; the faster one counts. Training is compared from its first
to its last moment (in B it begins when the layers are there, and waits for the first samples), and so are the whole
commands, processes starting included; where the time of B's goes is told. It needs a machine with nothing else to do:
what else runs slows the spinning A most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.machine import RESULTS, as_installed, machine
from benchmarks.pictures import cifar
from benchmarks.process_watch import ProcessUse, ProcessWatch
from benchmarks.whole_runs import scratch
from mple.plan import Augment, ModelSettings, Precision, TrainingSettings, write_settings
from mple.records.run_folder import COORDINATOR, RunFolder
from mple.records.state_files import LOG
from mple.simulate.children import tied
from mple.simulate.settings import SimulationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One command's times."""

    wall_s: float
    """Of the command, from its start to its end."""
    train_s: float
    """Of training, scoring included."""
    epochs_s: Sequence[float]
    first_layer_s: float | None = None
    """The augmented layers, as the compute node counts it."""
    read_ahead_s: float | None = None
    """Reading and decoding samples in the thread beside the trainer."""
    idle_share: float | None = None
    """Part of training in which the trainer waited for whatever."""
    idle_s: Mapping[str, float] | None = None
    """By cause."""
    parts_s: Mapping[str, float] | None = None
    """The command's time by what happened in it: `start` of all processes, `set-up` of the layers, `training`,
    `delivery` of the network, `end` from the run's last phase to the report."""
    uses: Mapping[str, ProcessUse] | None = None
    """By node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """A, B and A again, one after the other."""

    spinning: Timed
    whole: Timed
    sleeping: Timed
    load_before: float
    """Processes that wanted a core in the minute before: 0 on a quiet machine, up to this benchmark's own later on."""

    @property
    def plain(self) -> Timed:
        """The faster of the two."""
        return min(self.spinning, self.sleeping, key=lambda timed: timed.train_s)

    @property
    def train_ratio(self) -> float:
        """Training of the whole system over plain training."""
        return self.whole.train_s / self.plain.train_s

    @property
    def wall_ratio(self) -> float:
        """The same of the commands."""
        return self.whole.wall_s / self.plain.wall_s


def main() -> None:
    """Run the benchmark and write `system.json` and `system.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=3000, help="of each of three sites")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="one small round, to see that it works")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    as_installed()
    if options.quick:
        options.rounds, options.images, options.epochs, options.width = 1, 600, 1, 0.125
    settings = _settings(options.images, options.epochs, options.width)
    rounds: list[Round] = []
    with scratch(options.runs, "system") as folder:
        config = folder / "run.toml"
        config.write_text(write_settings(settings), encoding="utf-8")
        for number in range(options.rounds):
            one = folder / f"{number:02}"
            rounds.append(
                Round(
                    load_before=os.getloadavg()[0],
                    spinning=_plain(config, one / "spinning", {}),
                    whole=_whole(config, one / "whole", settings),
                    sleeping=_plain(config, one / "sleeping", {"OMP_WAIT_POLICY": "PASSIVE"}),
                )
            )
            print(_line(rounds[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.system --rounds {options.rounds} --images {options.images} "
        f"--epochs {options.epochs} --width {options.width}",
        "machine": machine(),
        "codec": settings.wire.codec,
        "preset": settings.morph.preset,
        "train_ratio": statistics.median(one.train_ratio for one in rounds),
        "wall_ratio": statistics.median(one.wall_ratio for one in rounds),
        "idle_share": statistics.median(one.whole.idle_share or 0.0 for one in rounds),
        "rounds": [asdict(one) for one in rounds],
    }
    (options.out / "system.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(rounds))
    _plot(rounds, options.out / "system.png")


def markdown(rounds: Sequence[Round]) -> str:
    """The table for docs/science/benchmarks.md: medians over the rounds and, of ratios, the extremes."""
    rows = [
        ("training", [one.plain.train_s for one in rounds], [one.whole.train_s for one in rounds]),
        ("whole command", [one.plain.wall_s for one in rounds], [one.whole.wall_s for one in rounds]),
    ]
    lines = ["| | plain, s | whole system, s | ratio (extremes) |", "| --- | --- | --- | --- |"]
    for name, plain, whole in rows:
        ratios = [b / a for a, b in zip(plain, whole, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(plain):.1f} | {statistics.median(whole):.1f} | "
            f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f}) |"
        )
    idle = statistics.median(one.whole.idle_share or 0.0 for one in rounds)
    first = statistics.median((one.whole.first_layer_s or 0.0) / one.whole.train_s for one in rounds)
    parts = [one.whole.parts_s for one in rounds if one.whole.parts_s]
    if parts:
        shown = (f"{name} {statistics.median(part[name] for part in parts):.1f} s" for name in parts[0])
        lines.append(f"\nThe whole command: {', '.join(shown)}.")
    lines.append(f"\nTrainer idle {idle:.2%}, first layer {first:.1%} of training. Processor seconds by node:")
    names = sorted({name for one in rounds for name in one.whole.uses or {}})
    lines.append(
        ", ".join(f"{n} {statistics.median(r.whole.uses[n].cpu_s for r in rounds if r.whole.uses):.1f}" for n in names)
    )
    return "\n".join(lines)


def _settings(images: int, epochs: int, width: float) -> SimulationSettings:
    return SimulationSettings(
        data=cifar(images),
        model=ModelSettings(width=width),
        training=TrainingSettings(epochs=epochs, precision=Precision.BF16, augment=(Augment.SHIFT,)),
    )


def _plain(config: Path, out: Path, environment: Mapping[str, str]) -> Timed:
    wall_s = _command("plain", config, out, environment)
    summary = _summary(out)
    return Timed(
        wall_s=wall_s,
        train_s=summary["train_seconds"],
        epochs_s=[epoch["seconds"] for epoch in summary["epochs"]],
    )


def _whole(config: Path, out: Path, settings: SimulationSettings) -> Timed:
    folder, began_s = RunFolder(out.resolve(), settings.sites), time.time()
    with ProcessWatch({name: folder.config(name) for name in folder.nodes}, pss=False) as watch:
        wall_s = _command("simulate", config, out)
    summary = _summary(out)
    compute = summary["compute"]
    return Timed(
        wall_s=wall_s,
        train_s=compute["train_seconds"],
        epochs_s=[epoch["seconds"] for epoch in summary["epochs"]],
        first_layer_s=compute["augconv_seconds"],
        read_ahead_s=compute["read_ahead_seconds"],
        idle_share=compute["idle_share"],
        idle_s=compute["idle_seconds_by_cause"],
        parts_s=_parts(folder, began_s, wall_s, compute["train_seconds"]),
        uses=watch.uses,
    )


def _parts(folder: RunFolder, began_s: float, wall_s: float, train_s: float) -> dict[str, float]:
    lines = map(json.loads, (folder.state(COORDINATOR) / LOG).read_text(encoding="utf-8").splitlines())
    at_s = {
        line["phase"]: datetime.fromisoformat(line["time"]).timestamp() for line in lines if line["event"] == "phase"
    }
    return {
        "start": at_s["setup"] - began_s,
        "set-up": at_s["training"] - at_s["setup"],
        "training": train_s,
        "delivery": at_s["finished"] - at_s["training"] - train_s,
        "end": began_s + wall_s - at_s["finished"],
    }


def _command(verb: str, config: Path, out: Path, environment: Mapping[str, str] | None = None) -> float:
    """Seconds that a verb of `mple` takes, with some more environment variables.

    Raises:
        RuntimeError: It failed; the text is what it said.
    """
    began = time.monotonic()
    program = [sys.executable, "-c", "import sys; from mple.cli import main; sys.exit(main())"]
    command = [*program, verb, str(config), "--out", str(out)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(tied(command), env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise RuntimeError(f"mple {verb} ended with code {done.returncode}:\n{said}")
    return time.monotonic() - began


def _summary(out: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


def _line(one: Round) -> str:
    plain, whole = one.plain, one.whole
    ways = f"{one.spinning.train_s:.1f} s spinning, {one.sleeping.train_s:.1f} s sleeping"
    return (
        f"training {ways}, {whole.train_s:.1f} s whole: {one.train_ratio:.3f}; "
        f"commands {plain.wall_s:.1f} s, {whole.wall_s:.1f} s: {one.wall_ratio:.3f}; idle {whole.idle_share or 0:.2%}"
    )


def _plot(rounds: Sequence[Round], path: Path) -> None:
    figure, (ratio, cpu) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    places = range(1, len(rounds) + 1)
    ratio.plot(places, [one.train_ratio for one in rounds], "o-", color="#4477aa", label="training")
    ratio.plot(places, [one.wall_ratio for one in rounds], "s--", color="#ee6677", label="whole command")
    ratio.axhline(1.0, color="#333333", linewidth=1)
    ratio.set_xticks(list(places))
    ratio.set_xlabel("round")
    ratio.set_ylabel("whole system over plain")
    ratio.legend(fontsize=7)
    uses = rounds[-1].whole.uses or {}
    cpu.barh(list(uses), [use.cpu_s for use in uses.values()], color="#4477aa")
    cpu.axvline(rounds[-1].whole.wall_s * (os.cpu_count() or 1), color="#999999", linewidth=1)
    cpu.set_xlabel("processor seconds, last round (line: all there were)")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
