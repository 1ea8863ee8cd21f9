"""Every file that every node keeps, damaged in every way: does the run end with the same network, or say why not?

    python -m benchmarks.state_damage [--only NAME ...] [--jobs 2] [--out results/benchmarks]

A tiny run of real processes over mutual TLS is killed half-way, all nodes at once, and copied. For each file and each
damage the copy is put back, the file damaged, and all nodes are started by their commands. It holds when the run ends
with the very network of the undisturbed run; or when the damaged node alone ends, by itself, with a sentence, and the
run ends with that network once the file is as it was and the node was started again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.forked_nodes import ForkedNodes
from benchmarks.machine import RESULTS
from mple.data import NpzSource, Partition, PartitionKind
from mple.exit_codes import ExitCode
from mple.plan import ModelSettings, MorphSettings, PrivacyMode, PrivacySettings, TrainingSettings, WireSettings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.state_files import METRICS, OUTCOME, RELEASES
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import MachineSettings, SimulationSettings

SITES = ("north", "south")
_CUT = 4096
_EMPTY_BOOK_BYTES = 16
_LONGEST_S = 60.0
_QUIET_S = 0.5
"""How long the others are watched after the damaged node has ended."""
_TRAIN, _TEST = 240, 40
_EPOCHS, _OLDER_EPOCHS, _HALF_EPOCHS = 8, 2, 4


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def _zeroed(content: bytes) -> bytes:
    start = max(0, len(content) // 2 - _CUT // 2)
    return content[:start] + bytes(len(content[start : start + _CUT])) + content[start + _CUT :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut by 1 byte": lambda content: content[:-1],
    "cut by 4 KiB": lambda content: content[:-_CUT] if len(content) > _CUT else b"",
    "4 KiB zeroed": _zeroed,
    "one bit": _flipped,
}
"""Beside these, `deleted` and `an older copy`."""
DELETED, OLDER = "deleted", "an older copy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One file, damaged in one way."""

    node: str
    file: str
    damage: str
    outcome: str
    """"same network", "stopped by itself, then same network", "no such file before", or what went wrong."""
    holds: bool
    sentence: str = ""
    """What the node said when it stopped."""
    exit_code: int = 0
    seconds: float = 0.0


def main() -> int:
    """Run the matrix and write `state_damage.json`; 3 when a cell does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="*",
        default=(),
        metavar="NAME",
        help="files whose path has this in it; the others stay as they were measured",
    )
    parser.add_argument("--jobs", type=int, default=2, help="matrices side by side, each of a run of its own")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cells = _side_by_side(Path(folder), arguments.only, arguments.jobs)
    out = arguments.out / "state_damage.json"
    if arguments.only and out.exists():
        cells = _in_their_places([Cell(**cell) for cell in json.loads(out.read_bytes())["matrix"]], cells)
    held = sum(cell.holds for cell in cells)
    document = {
        "cells": len(cells),
        "hold": held,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "run": {"sites": len(SITES), "epochs": _EPOCHS, "pictures": _TRAIN + _TEST, "killed_in_epoch": _HALF_EPOCHS},
        "matrix": [asdict(cell) for cell in cells],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(cells)))
    print(f"{held} of {len(cells)} cells hold")
    return int(ExitCode.DONE if held == len(cells) else ExitCode.RUN_FAILED)


def _in_their_places(before: list[Cell], cells: list[Cell]) -> list[Cell]:
    """What was measured before, with the files that were measured again by what they came to now."""
    again = {(cell.node, cell.file) for cell in cells}
    kept = [cell for cell in before if (cell.node, cell.file) not in again]
    nodes = (COORDINATOR, COMPUTE, *SITES)
    return sorted([*kept, *cells], key=lambda cell: (nodes.index(cell.node), cell.file))


def matrix(work: Path, only: Sequence[str] = (), *, job: int = 0, jobs: int = 1) -> list[Cell]:
    """The cells of files whose path has one of the texts in it, of all by default; each is told of as it is done. Of
    several jobs each does its share."""
    work.mkdir(exist_ok=True)
    run = _HalfDone.made(work)
    files = [(node, file.relative_to(run.half.node(node))) for node, file in run.files()]
    chosen = [(node, file) for node, file in files if not only or any(text in f"{node}/{file}" for text in only)]
    cells = []
    for node, file, damage in [(*one, damage) for one in chosen for damage in (*DAMAGES, DELETED, OLDER)][job::jobs]:
        cell = run.cell(node, file, damage)
        cells.append(cell)
        print(f"{'holds' if cell.holds else 'FAILS'} {node:11} {file!s:50} {damage:14} {cell.outcome}", flush=True)
    return cells


def _side_by_side(work: Path, only: Sequence[str], jobs: int) -> list[Cell]:
    """The whole matrix, in this order: by node, file and damage. Files that are named after a digest, which each run
    has others of, count by their place."""
    children = []
    for job in range(jobs):
        if (child := os.fork()) == 0:
            code = 1
            try:
                found = [asdict(cell) for cell in matrix(work / str(job), only, job=job, jobs=jobs)]
                (work / f"{job}.json").write_text(json.dumps(found), encoding="utf-8")
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise RuntimeError("a job of the matrix has ended badly")
    shares = [json.loads((work / f"{job}.json").read_bytes()) for job in range(jobs)]
    longest = max(map(len, shares))
    return [Cell(**share[place]) for place in range(longest) for share in shares if place < len(share)]


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """A line for each file, with what became of each damage."""
    short = {"same network": "goes on", "stopped by itself, then same network": "stops", "no such file before": "-"}
    damages = (*DAMAGES, DELETED, OLDER)
    yield "| node | file | " + " | ".join(damages) + " |"
    yield "| --- | --- |" + " --- |" * len(damages)
    for node, file in dict.fromkeys((cell.node, cell.file) for cell in cells):
        of = [cell for cell in cells if (cell.node, cell.file) == (node, file)]
        found = [{short.get(cell.outcome, "FAILS") for cell in of if cell.damage == damage} for damage in damages]
        said = [" or ".join(sorted(words)) for words in found]
        yield f"| {node} | `{file}` | " + " | ".join(said) + " |"


@dataclass(frozen=True, kw_only=True, slots=True)
class _HalfDone:
    """A run that was killed half-way, an older copy of it, and the network that it comes to."""

    run: RunFolder
    """Where its nodes run: their files have this path in them."""
    half: RunFolder
    older: tuple[RunFolder, ...]
    """Killed within training, and while the sites fed."""
    model_sha256: str

    @classmethod
    def made(cls, work: Path) -> _HalfDone:
        """Start a run, kill it three times, and let it end."""
        settings = SimulationSettings(
            sites=SITES,
            data=NpzSource(path=_pictures(work / "set.npz"), partition=Partition(kind=PartitionKind.IID)),
            morph=MorphSettings(preset="compact"),
            wire=WireSettings(codec="q8", layer="f16"),
            model=ModelSettings(width=0.0625),
            training=TrainingSettings(epochs=_EPOCHS, batch=24, peak_lr=0.0001),
            privacy=PrivacySettings(mode=PrivacyMode.NOISE),
            machine=MachineSettings(
                trainer_threads=1, idle_timeout_s=_LONGEST_S, in_flight_samples=8, checkpoint_every_steps=7
            ),
        )
        run = lay_out(work / "run", settings)
        feeding, older, half = copies = [RunFolder(work / name, run.sites) for name in ("feeding", "older", "half")]
        moments = (lambda: _all_feed(run), lambda: _epochs(run) >= _OLDER_EPOCHS, lambda: _epochs(run) >= _HALF_EPOCHS)
        for copy, reached in zip(copies, moments, strict=True):
            with ForkedNodes(run) as nodes:
                nodes.start(run.nodes)
                if not nodes.until(reached, _LONGEST_S):
                    raise RuntimeError(f"the run did not come as far as {copy.path.name}: see {run.path}")
            shutil.copytree(run.path, copy.path)
        with ForkedNodes(run) as nodes:
            nodes.start(run.nodes)
            if set(_ends(nodes).values()) != {0}:
                raise RuntimeError("the undisturbed run did not end well")
        return cls(run=run, half=half, older=(older, feeding), model_sha256=_model(run))

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file that a node keeps, in its state folder and a site's vault, but for the lock."""
        for node in self.half.nodes:
            for file in sorted(self.half.node(node).glob("*/**/*")):
                kept = file.relative_to(self.half.node(node)).parts[0] in ("state", "vault")
                if file.is_file() and kept and file.name != "node.lock":
                    yield node, file

    def cell(self, node: str, file: Path, damage: str) -> Cell:
        """Damage one file, start all nodes, and see what becomes of the run."""
        began = time.monotonic()
        shutil.rmtree(self.run.path)
        shutil.copytree(self.half.path, self.run.path)
        path, whole = self.run.node(node) / file, self.half.node(node) / file
        before = [copy.node(node) / file for copy in self.older]
        older = [copy for copy in before if copy.exists() and copy.read_bytes() != whole.read_bytes()]
        known = {"node": node, "file": _shown(file), "damage": damage}
        if damage == OLDER:
            if not older:
                return Cell(**known, outcome="no such file before", holds=True)
            shutil.copyfile(older[0], path)
        elif damage == DELETED:
            path.unlink()
        else:
            path.write_bytes(DAMAGES[damage](whole.read_bytes()))
        self.run.log_text(node).unlink(missing_ok=True)
        with ForkedNodes(self.run) as nodes:
            nodes.start(self.run.nodes)
            outcome, code = self._followed(nodes, node, file)
        holds = outcome in ("same network", "stopped by itself, then same network")
        sentence = _sentence(self.run, node) if code else ""
        seconds = round(time.monotonic() - began, 1)
        return Cell(**known, outcome=outcome, holds=holds, sentence=sentence, exit_code=code, seconds=seconds)

    def _followed(self, nodes: ForkedNodes, node: str, file: Path) -> tuple[str, int]:
        codes = _ends(nodes, first=True)
        bad = {name: code for name, code in codes.items() if code}
        if bad:
            time.sleep(_QUIET_S)
            bad |= {name: code for name, code in nodes.ended().items() if code}
            if set(bad) != {node}:
                return f"ended: {bad}", next(iter(bad.values()))
            self._put_right(node, file)
            nodes.start([node])
        left = _ends(nodes)
        if nodes.running or set(left.values()) - {0}:
            return f"stuck: {sorted(nodes.running)}, ended: {bad} {left}", bad.get(node, 0)
        if _model(self.run) != self.model_sha256:
            return "another network", bad.get(node, 0)
        same = "stopped by itself, then same network" if bad else "same network"
        return same, bad.get(node, 0)

    def _put_right(self, node: str, file: Path) -> None:
        """As the sentence says: the file as it was; one of SQLite's with what belongs to it."""
        stem = file.name.partition(".sqlite")[0] + ".sqlite" if ".sqlite" in file.name else file.name
        for part in (self.half.node(node) / file).parent.glob(f"{stem}*" if ".sqlite" in stem else stem):
            shutil.copyfile(part, self.run.node(node) / file.parent / part.name)
        (self.run.node(node) / file).chmod((self.half.node(node) / file).stat().st_mode & 0o777)


def _ends(nodes: ForkedNodes, *, first: bool = False) -> dict[str, int]:
    """Exit codes of all nodes; of those so far when one has failed, if `first`, or when it takes too long."""
    codes: dict[str, int] = {}
    give_up_at = time.monotonic() + _LONGEST_S
    while nodes.running and time.monotonic() < give_up_at and not (first and any(codes.values())):
        codes |= nodes.ended()
        time.sleep(0.02)
    return codes


def _epochs(run: RunFolder) -> int:
    path = run.state(COMPUTE) / METRICS
    return path.read_bytes().count(b'"kind": "epoch"') if path.exists() else 0


def _all_feed(run: RunFolder) -> bool:
    """Whether every site has counted a first release."""
    books = [next(run.state(site).glob(RELEASES.format("*")), None) for site in run.sites]
    return all(book is not None and book.stat().st_size > _EMPTY_BOOK_BYTES for book in books)


def _model(run: RunFolder) -> str:
    path = run.state(COMPUTE) / OUTCOME
    return str(json.loads(path.read_bytes())["model_sha256"]) if path.exists() else ""


def _shown(file: Path) -> str:
    """Without the run's id, digests and times, which differ from run to run."""
    return re.sub(r"(?<=[-/])[0-9a-f]{12}(?=[.-])|[0-9a-f]{32,}|(?<=tfevents\.).*", "*", file.as_posix())


def _sentence(run: RunFolder, node: str) -> str:
    text = run.log_text(node).read_text(encoding="utf-8")
    lines = text.replace(f"{run.node(node).parent}/", "").splitlines()
    return "; ".join(line for line in lines if line.startswith("mple-"))


def _pictures(path: Path) -> Path:
    """Soft patches in four classes, at random."""
    generator = np.random.Generator(np.random.PCG64(7))
    labels = generator.integers(0, 4, _TRAIN + _TEST)
    pixels = generator.integers(0, 80, (_TRAIN + _TEST, 28, 28, 1)) + 40 * labels[:, None, None, None]
    pixels = pixels.astype(np.uint8)
    np.savez(path, x_train=pixels[:_TRAIN], y_train=labels[:_TRAIN], x_test=pixels[_TRAIN:], y_test=labels[_TRAIN:])
    return path


if __name__ == "__main__":
    raise SystemExit(main())
