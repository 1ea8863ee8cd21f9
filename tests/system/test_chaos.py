"""Runs whose nodes are killed, held and cut off end with the very network of the undisturbed run, ledgers in order."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mple.cli import main
from mple.exit_codes import ExitCode
from mple.plan import (
    Augment,
    ClassWeights,
    Custody,
    DeliverTo,
    OptimiserName,
    TaskSettings,
    WireSettings,
    read_settings,
    write_settings,
)
from mple.records.run_folder import COMPUTE, COORDINATOR, SIMULATION
from mple.report import Summary
from mple.simulate.chaos_schedule import ChaosSettings, FaultKind, Stage, draw_faults
from mple.simulate.own_names import names_available
from mple.simulate.repeat import repeat
from mple.simulate.settings import SimulationSettings
from tests.support.small_consortium import small_settings, write_pictures

TWO_KILLS = 3
"""A seed whose two kills hit the compute node and a site."""


def disturbable(tmp_path: Path, *, epochs: int, sites: tuple[str, ...] = ("north", "south")) -> SimulationSettings:
    settings = small_settings(
        write_pictures(tmp_path / "set.npz"), epochs=epochs, sites=sites, deliver=DeliverTo.SITES, most_val=8
    )
    machine = replace(settings.machine, checkpoint_every_steps=15, in_flight_samples=32)
    wire = WireSettings(codec="q8", message_bytes=16 * 1024, releases=6)
    training = replace(settings.training, optimiser=OptimiserName.ADAMW, augment=tuple(Augment), label_smoothing=0.1)
    model = replace(settings.model, stem_mirrored=True)
    task = TaskSettings(class_weights=ClassWeights.EFFECTIVE)
    return replace(settings, machine=machine, wire=wire, training=training, model=model, task=task)


def run(tmp_path: Path, settings: SimulationSettings, *options: str) -> tuple[int, Path]:
    config, out = tmp_path / "simulation.toml", tmp_path / "run"
    config.write_text(write_settings(settings), encoding="utf-8")
    return main(["simulate", str(config), "--plain", "--out", str(out), *options]), out


def report_of(out: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads((out / "chaos.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.skipif(not names_available(), reason="this system gives no process mounts of its own")
def test_a_run_outlasts_the_kill_of_a_site_and_of_the_compute_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And want of descriptors and a name service that is away. In the undisturbed run one process holds all sites: the
    network is the same, and each site's files are its own. Samples are coded under the sites' own bases."""
    monkeypatch.setattr("mple.cli.run.repeat", repeated_in_one_process)
    settings = disturbable(tmp_path, epochs=8)
    settings = replace(settings, wire=replace(settings.wire, codec="k6"))
    chaos = ChaosSettings(seed=TWO_KILLS, kills=2, stops=0, cuts=0)
    killed = [name for fault in draw_faults(chaos, settings.sites, releases=6) for name in fault.nodes]
    assert COMPUTE in killed
    assert COORDINATOR not in killed
    numbers = {"--chaos": str(TWO_KILLS), "--kills": "2", "--stops": "0", "--cuts": "0", "--starves": "2"}
    code, out = run(tmp_path, settings, *(word for pair in numbers.items() for word in pair), "--unnames", "1")
    report = report_of(out)
    assert code == ExitCode.DONE, report
    assert report["proven"] is True
    for name in ("model_sha256", "kept_epoch", "epochs", "val_loss"):
        assert report["disturbed"][name] == report["undisturbed"][name] is not None  # type: ignore[index]
    faults: list[dict[str, object]] = report["faults"]  # type: ignore[assignment]
    assert [fault["nodes"] for fault in faults if fault["kind"] == FaultKind.KILL] == [[name] for name in killed]
    assert sorted(fault["kind"] for fault in faults) == ["kill", "kill", "starve", "starve", "unname"]  # type: ignore[type-var]
    starts = [(out / "nodes" / name / "log.txt").read_text().count("joined run") for name in killed]
    assert min(starts) >= 2
    shared = out / "undisturbed" / "nodes"
    assert [path.name for path in shared.glob("*.txt")] == ["north..south.txt"]
    assert foreign_words(shared, settings.sites) == []


def repeated_in_one_process(done: Path, *arguments: Any, **options: Any) -> Summary | None:
    settings = read_settings(SimulationSettings, done / SIMULATION)
    changed = replace(settings, machine=replace(settings.machine, site_processes=1))
    (done / SIMULATION).write_text(write_settings(changed), encoding="utf-8")
    return repeat(done, *arguments, **options)


def foreign_words(nodes: Path, sites: tuple[str, ...]) -> list[tuple[Path, bytes]]:
    """What a site's vault, ledger, log and audit trail have of another site, by its name, its secrets or its keys'
    fingerprints. The plan, which all know, and what rests on it are other files; the run's secret is everybody's, and
    the first site's trail says to whom it has left it."""
    found = []
    for site, other in itertools.permutations(sites, 2):
        keys = [path for path in (nodes / other / "vault").glob("*.key") if not path.name.startswith("consortium")]
        words = [other.encode(), *(path.read_bytes() for path in keys)]
        words += [hashlib.sha256(path.read_bytes()).hexdigest()[:16].encode() for path in keys]
        own = [*(nodes / site / "vault").iterdir()]
        own += [path for name in ("ledger.*", "log.jsonl", "audit.*") for path in (nodes / site / "state").glob(name)]
        assert len(own) >= 5
        for path in own:
            lines = [line for line in path.read_bytes().split(b"\n") if b'"envelope_left"' not in line]
            found += [(path, word) for word in words if any(word in line for line in lines)]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not names_available(), reason="this system gives no process mounts of its own")
def test_a_run_outlasts_faults_of_every_kind_at_every_node_and_stage(tmp_path: Path) -> None:
    settings = disturbable(tmp_path, epochs=25, sites=("north", "east", "south"))
    numbers = {"--chaos": "3", "--kills": "8", "--stops": "2", "--cuts": "4", "--starves": "4", "--unnames": "3"}
    code, out = run(tmp_path, settings, *(word for pair in numbers.items() for word in pair))
    report = report_of(out)
    assert code == ExitCode.DONE, report
    faults: list[dict[str, object]] = report["faults"]  # type: ignore[assignment]
    killed = [name for fault in faults if fault["kind"] == FaultKind.KILL for name in fault["nodes"]]  # type: ignore[attr-defined]
    assert len(killed) == 8
    assert set(killed) == {COORDINATOR, COMPUTE, *settings.sites}
    assert {fault["stage"] for fault in faults} == set(Stage)
    assert {fault["kind"] for fault in faults} == set(FaultKind)
    figures = [report[name] for name in ("disturbed", "undisturbed")]
    assert figures[0]["model_sha256"] == figures[1]["model_sha256"]  # type: ignore[index]
    for name in ("test_accuracy", "val_loss", "kept_epoch"):
        assert figures[0][name] == figures[1][name]  # type: ignore[index]


def test_what_can_not_be_compared_is_refused_before_it_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_settings(tmp_path / "set.npz", custody=Custody.ESCROW)
    code, out = run(tmp_path, settings, "--chaos", "1")
    assert code == ExitCode.BAD_USAGE
    assert "channel order" in capsys.readouterr().err
    assert not out.exists()
    assert main(["simulate", "--repeat", str(tmp_path), "--out", str(out)]) == ExitCode.BAD_USAGE
    assert "holds no plan.json" in capsys.readouterr().err


def test_a_node_that_ends_by_itself_fails_the_run_and_is_not_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = disturbable(tmp_path, epochs=2)
    code, out = run(tmp_path, settings, "--chaos", "1", "--set", "data.path=absent.npz")
    assert code == ExitCode.BAD_USAGE
    assert "absent.npz" in capsys.readouterr().err
    assert not (out / "chaos.json").exists()
