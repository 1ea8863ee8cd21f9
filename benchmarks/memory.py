"""What each node's memory was foreseen to be, beside its peak: whole runs of real nodes.

    python -m benchmarks.memory [--case NAME ...] [--images 2000] [--quick] [--out results/benchmarks]

A run of two sites for each case, of sixteen in one process for the last, of whom the first speaks. Every node says
before the run what it will need; its peak is the kernel's own high-water mark of resident memory over the process's
life. A forecast is right when it is not below the peak and not above one and a half times of it.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import RESULTS, machine
from benchmarks.pictures import cifar, upscaled_cifar
from benchmarks.process_watch import ProcessWatch
from benchmarks.whole_runs import scratch
from mple.plan import settings_from
from mple.records.run_folder import RunFolder
from mple.simulate.laying_out import lay_out
from mple.simulate.runner import run_nodes
from mple.simulate.settings import SimulationSettings

_MIB = 2**20
_WANTED = (1.0, 1.5)
_CASES: Mapping[str, Mapping[str, Any]] = {
    "compact": {"model": {"width": 1.0}},
    "narrow": {"model": {"width": 0.25}},
    "distinct": {"model": {"width": 0.5}, "morph": {"preset": "distinct"}, "training": {"precision": "bf16"}},
    "paper": {"model": {"width": 0.5}, "morph": {"preset": "paper"}, "training": {"precision": "bf16"}},
    "adamw": {"model": {"width": 0.5}, "training": {"optimiser": "adamw", "augment": ["shift"]}},
    "224 px": {"model": {"width": 0.125}, "training": {"batch": 16}},
    "16 sites a process": {"model": {"width": 0.25}, "sites": 16, "machine": {"site_processes": 1}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeMemory:
    """One node of one case."""

    case: str
    node: str
    foreseen_mib: float
    peak_mib: float
    text: str
    """The node's own words."""

    @property
    def ratio(self) -> float:
        """Foreseen over peak."""
        return self.foreseen_mib / self.peak_mib


def main() -> None:
    """Run the benchmark and write `memory.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=_CASES, nargs="*", default=list(_CASES))
    parser.add_argument("--images", type=int, default=2000, help="of each of two sites; a tenth at 224 px")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures, a quarter of the width")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: list[NodeMemory] = []
    with scratch(options.runs, "memory") as folder:
        for name in options.case:
            found += _case(name, options.images // (10 if options.quick else 1), options.quick, folder)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.memory --images {options.images}{' --quick' if options.quick else ''}",
        "machine": machine(),
        "wanted": _WANTED,
        "right": all(_WANTED[0] <= one.ratio <= _WANTED[1] for one in found),
        "nodes": [{**asdict(one), "ratio": round(one.ratio, 3)} for one in found],
    }
    (options.out / "memory.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(found))


def markdown(found: list[NodeMemory]) -> str:
    """The table for docs/guide/memory.md."""
    rows = [
        f"| {one.case} | {one.node} | {one.foreseen_mib:,.0f} | {one.peak_mib:,.0f} | {one.ratio:.2f} |"
        for one in found
    ]
    return "\n".join(["| case | node | foreseen, MiB | peak, MiB | ratio |", "| --- | --- | --- | --- | --- |", *rows])


def _case(name: str, images: int, quick: bool, folder: Path) -> list[NodeMemory]:
    large = name == "224 px"
    images = max(40, images // 10 if large else images)
    raw = copy.deepcopy(dict(_CASES[name]))
    raw["training"] = {"epochs": 1, **raw.get("training", {})}
    raw.setdefault("sites", ["north", "south"])
    if quick:
        raw["model"]["width"] = max(0.0625, raw["model"]["width"] / 4)
    data = (
        upscaled_cifar(224, images, folder / "large.npz")
        if large
        else cifar(images if isinstance(raw["sites"], list) else images // 8)
    )
    settings = settings_from(SimulationSettings, raw)
    settings = replace(settings, data=data)
    run = lay_out(folder / name.replace(" ", ""), settings)
    with ProcessWatch({node: run.config(node) for node in run.nodes}, every_s=0.1, pss=False) as watch:
        run_nodes(run, settings, Console(quiet=True), plain=True, tables=False)
    found = []
    for node in (*run.nodes[:2], run.nodes[2]) if len(run.sites) > 2 else run.nodes:
        use = watch.uses[node]
        foreseen = _foreseen(run, node)
        found.append(
            NodeMemory(
                case=name,
                node=node,
                foreseen_mib=round(foreseen["bytes"] / _MIB, 1),
                peak_mib=use.peak_rss_mib,
                text=foreseen["text"],
            )
        )
        print(f"{name}, {node}: {found[-1].peak_mib:.0f} MiB; {found[-1].text}", flush=True)
    return found


def _foreseen(run: RunFolder, node: str) -> dict[str, object]:
    for line in (run.state(node) / "log.jsonl").read_text(encoding="utf-8").splitlines():
        said: dict[str, object] = json.loads(line)
        if said["event"] == "memory":
            return said
    raise ValueError(f"{node} has not said what memory it will need")


if __name__ == "__main__":
    main()
