"""Runs that end too early, as the command is typed: the reason on stderr, a readable folder, and no process left."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, read_entries
from mple.exit_codes import ExitCode
from mple.model.stem import Stem
from mple.plan import write_settings
from mple.records.run_folder import COMPUTE
from mple.simulate.children import Children, tied
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import (
    small_settings,
    start_node,
    wait_for_end,
    wait_for_text,
    wait_until,
    write_pictures,
)

MPLE = "import sys; from mple.cli import main; sys.exit(main())"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A simulation that would go on for long."""
    settings = small_settings(write_pictures(tmp_path / "set.npz"), epochs=1000)
    path = tmp_path / "simulation.toml"
    path.write_text(write_settings(settings), encoding="utf-8")
    return path


@contextmanager
def mple(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command; if it is still there at the end it is told to stop, so that its nodes go with it."""
    command = [sys.executable, "-c", MPLE, *map(str, arguments)]
    with subprocess.Popen(tied(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30.0)
            process.kill()


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name a folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has just ended
    return [line for line in lines if f"{folder}/" in line]


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT, signal.SIGTERM),
        pytest.param((signal.SIGTERM, signal.SIGTERM), marks=pytest.mark.slow),
        pytest.param((signal.SIGHUP,), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_a_readable_folder_and_no_process(
    config: Path, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    out = tmp_path / "run"
    with mple("simulate", config, "--out", out) as process:
        wait_for_text(out / "nodes" / "compute" / "state" / "metrics.jsonl", '"step"')
        assert len(processes_of(out)) == 4
        send(process.pid, *signals)
        told, complaints = process.communicate(timeout=90.0)
    assert process.returncode == ExitCode.INTERRUPTED, complaints
    assert complaints == ""
    assert "the run is training" in told
    assert processes_of(out) == []
    assert json.loads((out / "summary.json").read_text())["state"] == "interrupted"
    with mple("report", out) as process:
        _, complaints = process.communicate(timeout=90.0)
    assert process.returncode == ExitCode.BAD_USAGE
    assert "interrupted" in complaints
    assert "Traceback" not in complaints


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_killed_run_leaves_no_process(config: Path, tmp_path: Path, training: bool) -> None:
    out = tmp_path / "run"
    with mple("simulate", config, "--out", out) as process:
        if training:
            wait_for_text(out / "nodes" / "compute" / "state" / "metrics.jsonl", '"step"')
        wait_until(lambda: len(processes_of(out)) == 4)
        process.kill()
        wait_until(lambda: not processes_of(out))


def test_each_node_ends_in_order_however_signals_come(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "run", small_settings(write_pictures(tmp_path / "set.npz"), epochs=1000))
    pairs = itertools.cycle([(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGHUP,)])
    with Children(5.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        wait_for_text(folder.state(COMPUTE) / "metrics.jsonl", '"step"')
        for name in reversed(folder.nodes):
            send(pid_of(folder.config(name)), *next(pairs))
        codes = wait_for_end(children, set(folder.nodes))
    assert codes == dict.fromkeys(folder.nodes, ExitCode.INTERRUPTED)
    for name in folder.nodes:
        last = list(read_entries(folder.state(name) / FILE_NAME))[-1]
        assert (last.what, last.result) == ("node_stop", "INTERRUPTED"), name


def test_a_node_that_dies_takes_the_run_with_it(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with mple("simulate", config, "--out", out) as process:
        wait_for_text(out / "nodes" / "compute" / "state" / "metrics.jsonl", '"step"')
        os.kill(pid_of(out / "nodes" / "compute" / "node.toml"), signal.SIGKILL)
        _, complaints = process.communicate(timeout=90.0)
    assert process.returncode == ExitCode.INTERNAL
    assert "node compute ended with code 137" in complaints
    assert str(out / "nodes" / "compute" / "log.txt") in complaints
    assert processes_of(out) == []
    note = json.loads((out / "summary.json").read_text())
    assert note["state"] == "failed"
    assert "compute" in note["reason"]


def test_data_that_are_not_there_are_named(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with mple("simulate", config, "--out", out, "--set", "data.path=absent.npz") as process:
        _, complaints = process.communicate(timeout=90.0)
    assert process.returncode == ExitCode.BAD_USAGE
    assert "absent.npz" in complaints
    assert any(f"node {site} ended with code 2" in complaints for site in ("north", "south"))
    assert processes_of(out) == []


def test_an_offered_stem_that_does_not_fit_fails_the_run_with_the_reason(config: Path, tmp_path: Path) -> None:
    stem = Stem.from_seed("other", filters=64, channels=3, kernel=3)
    (tmp_path / "stem.safetensors").write_bytes(stem.to_safetensors())
    out = tmp_path / "run"
    offered = ["--set", "model.stem=offered", "--set", "stem_file=stem.safetensors"]
    with mple("simulate", config, "--out", out, *offered) as process:
        _, complaints = process.communicate(timeout=90.0)
    assert process.returncode == ExitCode.RUN_FAILED
    assert "STEM_REJECTED" in complaints
    assert "node coordinator" in complaints
    assert processes_of(out) == []


def send(pid: int, *signals: signal.Signals) -> None:
    """Signals to a process, each while it handles the one before."""
    for number in signals:
        os.kill(pid, number)
        until = time.perf_counter() + 60e-6
        while time.perf_counter() < until:
            pass


def pid_of(config: Path) -> int:
    """The process that was started with a configuration file."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        if str(config).encode() in entry.read_bytes().split(b"\0"):
            return int(entry.parent.name)
    raise AssertionError(f"no process has {config}")
