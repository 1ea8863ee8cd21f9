"""Many hospitals on one machine: what they cost beside few with the same pictures, and a coordinator that comes back.

    python -m benchmarks.many_sites [--sites 200 | --sites 1000] [--restart] [--quick] [--out results/benchmarks]

`--sites 200` runs 20,000 pictures of CIFAR-10, one epoch of a narrow network, over 200 sites and over 4, one after the
other, twice: A B A B. `--sites 1000` runs 10,000 pictures over a thousand. Of all processes of a run together the
memory is looked at while they live: a page that several share counts once (PSS). `--restart` kills the coordinator with
a thousand parties watching, starts it again, and tells when each of them was let in again. These parties are of the
same code as a site's, its channel, its retries and its events, without pictures. What was measured before of other
parts stays in `many_sites.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.machine import RESULTS, as_installed, machine
from benchmarks.process_watch import ProcessWatch
from benchmarks.reconnecting import Reconnection, environment, reconnection
from benchmarks.whole_runs import scratch
from mple.data import Cifar10Source, Partition, PartitionKind
from mple.plan import ModelSettings, TrainingSettings, write_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.children import tied
from mple.simulate.processes import processes_of
from mple.simulate.settings import MachineSettings, SimulationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt

_WIDTH = 0.125
_TEST_SHARE = 10
"""Training pictures for each test picture."""
FEW = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ManySites:
    """One whole run."""

    sites: int
    pictures: int
    wall_s: float
    """Of the whole command."""
    train_s: float
    messages: int
    """At all sites' links, matched at both ends."""
    lost: int
    """Cut off on their way with a broken call."""
    balanced: bool
    peak_mib: float
    """Sum over all processes of the most that each held, pages that several share counted once."""
    peak_rss_mib: Mapping[str, float]
    """By process."""
    cpu_s: Mapping[str, float]
    """By process."""


def main() -> None:
    """Run the parts that are asked for, all by default, and write `many_sites.json` and `many_sites.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, choices=(200, 1000), action="append", help="runs of so many sites")
    parser.add_argument("--restart", action="store_true", help="a coordinator that is killed and started again")
    parser.add_argument("--rounds", type=int, default=2, help="of 200 sites and few")
    parser.add_argument("--quick", action="store_true", help="a fifth of the sites and pictures, to see that it works")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    as_installed()
    whole = not (options.sites or options.restart)
    scale = 5 if options.quick else 1
    path = options.out / "many_sites.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    with scratch(options.runs, "many-sites") as folder:
        if whole or 200 in (options.sites or ()):
            rounds = []
            for number in range(options.rounds):
                for sites in (200 // scale, FEW):
                    rounds.append(measured(folder / f"{number}-{sites}", sites, 20_000 // scale))
                    print(line(rounds[-1]), flush=True)
            found["two_hundred"] = _part("--sites 200", options.quick, rounds=[asdict(one) for one in rounds])
            found["two_hundred"]["ratio"] = ratio(rounds)
            print(f"whole command of many sites over that of {FEW}: {ratio(rounds):.3f}")
        if whole or 1000 in (options.sites or ()):
            one = measured(folder / "thousand", 1000 // scale, 10_000 // scale)
            print(line(one), flush=True)
            found["thousand"] = _part("--sites 1000", options.quick, run=asdict(one))
        if whole or options.restart:
            back = reconnection(folder / "restart", 1000 // scale)
            print(told(back))
            found["restart"] = _part("--restart", options.quick, **asdict(back))
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _plot(found, options.out / "many_sites.png")


def measured(out: Path, sites: int, pictures: int) -> ManySites:
    """A whole run by its command, looked at from outside.

    Raises RuntimeError: it failed.
    """
    settings = settings_of(sites, pictures)
    out.parent.mkdir(parents=True, exist_ok=True)
    config = out.with_suffix(".toml")
    config.write_text(write_settings(settings), encoding="utf-8")
    folder = RunFolder(out.resolve(), settings.sites)
    configs = {process.name: folder.config(process.nodes[0]) for process in processes_of(settings)}
    with ProcessWatch(configs, every_s=2.0) as watch:
        wall_s = _simulated(config, out)
    summary = json.loads((out / "summary.json").read_bytes())
    books = summary["balance"]
    return ManySites(
        sites=sites,
        pictures=pictures,
        wall_s=round(wall_s, 1),
        train_s=round(summary["compute"]["train_seconds"], 1),
        messages=books["matched"],
        lost=books["lost"],
        balanced=not any(books[name] for name in ("only_sent", "only_received", "size_differs")),
        peak_mib=round(sum(use.peak_pss_mib for use in watch.uses.values()), 1),
        peak_rss_mib={name: use.peak_rss_mib for name, use in watch.uses.items()},
        cpu_s={name: use.cpu_s for name, use in watch.uses.items()},
    )


def _simulated(config: Path, out: Path) -> float:
    """Seconds that the command takes. Raises RuntimeError: it failed; the text is what it said."""
    program = [sys.executable, "-c", "import sys; from mple.cli import main; sys.exit(main())"]
    began = time.monotonic()
    arguments = tied([*program, "simulate", str(config), "--out", str(out)])
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise RuntimeError(f"mple simulate ended with code {done.returncode}:\n{said}")
    return time.monotonic() - began


def settings_of(sites: int, pictures: int) -> SimulationSettings:
    """Settings of a run of so many sites, each with as many of the pictures."""
    each = pictures // sites
    test = max(1, each // (_TEST_SHARE + 1))
    names = tuple(f"site-{number:04}" for number in range(1, sites + 1))
    return SimulationSettings(
        sites=names,
        data=Cifar10Source(
            most_train=each - test, most_test=test, partition=Partition(kind=PartitionKind.IID), validation_share=0.0
        ),
        model=ModelSettings(width=_WIDTH),
        training=TrainingSettings(epochs=1),
        machine=MachineSettings(trainer_threads=1),
    )


def ratio(rounds: Sequence[ManySites]) -> float:
    """Whole time of many sites over that of few, by medians."""
    many, few = (
        statistics.median(one.wall_s for one in rounds if (one.sites == FEW) is of_few) for of_few in (False, True)
    )
    return round(many / few, 3)


def line(one: ManySites) -> str:
    """A run in words."""
    books = "balanced" if one.balanced else "NOT balanced"
    return (
        f"{one.sites:,} sites, {one.pictures:,} pictures: {one.wall_s:.1f} s, training {one.train_s:.1f} s; "
        f"{one.messages:,} messages, ledgers {books}; {one.peak_mib:,.0f} MiB in all, coordinator "
        f"{one.peak_rss_mib.get(COORDINATOR, 0):,.0f}, compute node {one.peak_rss_mib.get(COMPUTE, 0):,.0f} MiB"
    )


def told(back: Reconnection) -> str:
    """A restart in words."""
    return (
        f"{back.parties:,} parties back {back.last_s:.1f} s after the coordinator listened again, half of them within "
        f"{statistics.median(back.back_s):.1f} s; most in one tenth of a second: {back.most_at_once}"
    )


def _part(flags: str, quick: bool, **values: Any) -> dict[str, Any]:
    command_text = f"python -m benchmarks.many_sites {flags}{' --quick' if quick else ''}"
    return {"command": command_text, "machine": machine(), "measured": time.strftime("%Y-%m-%d"), **values}


def _plot(found: Mapping[str, Any], path: Path) -> None:
    figure, (memory, back) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    runs = [
        *found.get("two_hundred", {}).get("rounds", ()),
        *([found["thousand"]["run"]] if "thousand" in found else ()),
    ]
    memory.barh([f"{run['sites']:,} sites, {run['wall_s']:.0f} s" for run in runs], [run["peak_mib"] for run in runs])
    memory.set_xlabel("MiB of all processes at most")
    if "restart" in found:
        back.hist(found["restart"]["back_s"], bins=60, color="#4477aa")
    back.set_xlabel("seconds from the coordinator's return to a party's")
    back.set_ylabel("parties")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
