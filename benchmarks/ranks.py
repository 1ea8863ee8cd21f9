"""Two ranks of the compute node with a thread each, against one with two threads: equal batches on equal cores.

    python -m benchmarks.ranks [--seeds 2] [--images 2000] [--epochs 3] [--width 1.0] [--quick]

A: one rank, two threads. B: two ranks, `training.ranks = 2`, a thread each. Whole runs with three sites over mutual
TLS, A B for each seed; ratios are taken seed by seed. The rate is that of steps: samples of all epochs but the first,
which waits for the sites, by their time without scoring. Then B of the first seed again with its vaults: once
undisturbed, and once for each rank with a `kill -9` of it half-way, after which the launcher starts both again. All
must come to the same network. It needs a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.machine import RESULTS, machine
from benchmarks.pictures import cifar
from benchmarks.whole_runs import scratch
from mple.disk.json_records import read_record
from mple.plan import Augment, ModelSettings, Precision, TrainingSettings
from mple.records.run_folder import COMPUTE, RunFolder
from mple.records.state_files import METRICS, OUTCOME
from mple.records.training import Outcome, epochs_of, read_metrics
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from mple.simulate.processes import processes_of
from mple.simulate.repeat import lay_out_again
from mple.simulate.runner import run_nodes, start_process
from mple.simulate.settings import MachineSettings, SimulationSettings

_CORES = 2
_CHECKPOINT_STEPS = 20
_LOOK_S = 0.2
_MOST_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One run."""

    ranks: int
    seed: int
    samples_per_second: float
    train_s: float
    """Of the whole training, scoring and waiting for the first samples included."""
    idle_s: Mapping[str, float]
    test_accuracy: float
    model_sha256: str
    load_before: float
    """Processes that wanted a core in the minute before: 0 on a quiet machine, up to this benchmark's own later on."""


def main() -> None:
    """Run the benchmark and write `ranks.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000, help="of each of three sites")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="small runs, to see that it works")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.images, options.epochs, options.width = 480, 2, 0.125
    runs: list[Trained] = []
    with scratch(options.runs, "ranks") as folder:
        for seed in range(1, options.seeds + 1):
            for ranks in (1, 2):
                settings = _settings(options.images, options.epochs, options.width, ranks, seed)
                runs.append(_trained(settings, folder / f"seed-{seed}-ranks-{ranks}"))
                print(_line(runs[-1]), flush=True)
        done = folder / "seed-1-ranks-2"
        again = {"re-run": _again(done, folder / "again", None)}
        for rank in (0, 1):
            again[f"rank {rank} killed"] = _again(done, folder / f"killed-{rank}", rank)
            print(f"{list(again)[-1]}: {list(again.values())[-1][:16]}", flush=True)
    ratios = [two.samples_per_second / one.samples_per_second for one, two in zip(runs[::2], runs[1::2], strict=True)]
    about = {
        "command": f"python -m benchmarks.ranks --seeds {options.seeds} --images {options.images} "
        f"--epochs {options.epochs} --width {options.width}",
        "machine": machine(),
        "rate_ratio": statistics.median(ratios),
        "rate_ratios": ratios,
        "equal_networks": {name: digest == runs[1].model_sha256 for name, digest in again.items()},
        "runs": [asdict(one) for one in runs],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ranks.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(runs, ratios, again))


def markdown(runs: list[Trained], ratios: list[float], again: Mapping[str, str]) -> str:
    """The table for docs/science/benchmarks.md."""
    lines = ["| seed | ranks | samples a second | test accuracy | network |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {one.seed} | {one.ranks} | {one.samples_per_second:.0f} | {one.test_accuracy:.3f} | "
        f"{one.model_sha256[:16]} |"
        for one in runs
    ]
    told = (f"{name}: {'equal' if digest == runs[1].model_sha256 else 'OTHER'}" for name, digest in again.items())
    ratio = f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f})"
    return "\n".join([*lines, f"\nTwo ranks over one: {ratio}. The network again: {', '.join(told)}."])


def _settings(images: int, epochs: int, width: float, ranks: int, seed: int) -> SimulationSettings:
    return SimulationSettings(
        data=cifar(images),
        model=ModelSettings(width=width),
        training=TrainingSettings(
            epochs=epochs, precision=Precision.BF16, augment=(Augment.SHIFT,), ranks=ranks, seed=seed
        ),
        machine=MachineSettings(trainer_threads=_CORES, checkpoint_every_steps=_CHECKPOINT_STEPS),
    )


def _trained(settings: SimulationSettings, out: Path) -> Trained:
    load = os.getloadavg()[0]
    folder = lay_out(out, settings)
    summary = run_nodes(folder, settings, Console(file=io.StringIO()), plain=True, tables=False)
    if summary is None:
        raise RuntimeError("the run was interrupted")
    later = epochs_of(read_metrics(folder.state(COMPUTE) / METRICS))[1:]
    outcome = read_record(Outcome, folder.state(COMPUTE) / OUTCOME)
    told = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return Trained(
        ranks=settings.training.ranks,
        seed=settings.training.seed,
        samples_per_second=sum(one.samples for one in later) / sum(one.seconds - one.scoring_seconds for one in later),
        train_s=outcome.train_seconds,
        idle_s=outcome.idle_seconds_by_cause,
        test_accuracy=told["test_accuracy"],
        model_sha256=outcome.model_sha256,
        load_before=load,
    )


def _again(done: Path, out: Path, killed: int | None) -> str:
    """The digest of the network that a run comes to once more, if need be with a rank killed half-way."""
    folder, settings = lay_out_again(done, out)
    half = settings.training.epochs // 2
    with Children(settings.machine.stop_grace_s) as children:
        for process in processes_of(settings):
            start_process(children, folder, settings, process, restarts=2)
        ends = time.monotonic() + _MOST_S
        while children.running:
            if killed is not None and _epochs_begun(folder) > half:
                if not children.kill_rank(COMPUTE, killed):
                    raise RuntimeError(f"rank {killed} was not there to be killed")
                killed = None
            failed = [one for one in children.ended() if one.code]
            if failed or time.monotonic() > ends:
                raise RuntimeError(f"{failed or 'the run'} did not end well; see {folder.path}/nodes")
            time.sleep(_LOOK_S)
    if killed is not None:
        raise RuntimeError("training was over before its half was seen")
    return read_record(Outcome, folder.state(COMPUTE) / OUTCOME).model_sha256


def _epochs_begun(folder: RunFolder) -> int:
    path = folder.state(COMPUTE) / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return max((json.loads(line)["epoch"] for line in lines), default=0)


def _line(one: Trained) -> str:
    ranks = f"{one.ranks} rank{'s' if one.ranks > 1 else ''}"
    return f"seed {one.seed}, {ranks}: {one.samples_per_second:.0f} samples/s, network {one.model_sha256[:16]}"


if __name__ == "__main__":
    main()
