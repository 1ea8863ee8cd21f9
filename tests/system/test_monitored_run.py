"""Three kinds of nodes as real processes, asked for their metrics over HTTP: they say what their ledgers say."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from mple.exit_codes import ExitCode
from mple.model.metrics import METRICS
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.report import summarise
from mple.simulate.children import Children, command
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import EndpointSettings
from tests.support.small_consortium import small_settings, start_node, wait_for_end, write_pictures

LABELS = ("method", "kind", "direction", "peer")
ANY_PORT = "127.0.0.1:0"


def asked(folder: RunFolder, name: str) -> dict[str, Metric]:
    """The metrics of a node, at the address that its log names."""
    log = folder.state(name) / "log.jsonl"
    give_up_at = time.monotonic() + 30
    while True:
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        addresses = [line["address"] for line in lines if line["event"] == "monitoring"]
        if addresses:
            break
        assert time.monotonic() < give_up_at, f"{name} names no address"
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://{addresses[-1]}/metrics", timeout=10) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """Values by those of some labels."""
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def test_every_node_tells_what_its_ledger_says(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "set.npz")
    endpoints = EndpointSettings(coordinator=ANY_PORT, compute=ANY_PORT, sites=(ANY_PORT, "", ANY_PORT))
    folder = lay_out(tmp_path / "run", replace(small_settings(pictures), monitoring=endpoints))
    with Children(10.0) as children:
        arguments = [*command("mple-compute"), "serve", str(folder.config(COMPUTE)), "--set", "stay=true"]
        children.start(COMPUTE, arguments, log_text=folder.log_text(COMPUTE), threads=1)
        for name in (COORDINATOR, *folder.sites):
            start_node(children, folder, name)
        for name in (COORDINATOR, folder.sites[0], folder.sites[2]):
            (about,) = asked(folder, name)["mple_node_info"].samples
            assert about.labels["node"].endswith(f"/{name}")
        codes = wait_for_end(children, {COORDINATOR, *folder.sites})
        assert set(codes.values()) == {ExitCode.DONE}
        found = asked(folder, COMPUTE)
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]
    ledgers = sqlite3.connect(folder.state(COMPUTE) / "ledger.sqlite")
    rows = ledgers.execute(
        f"SELECT {', '.join(LABELS)}, COUNT(*), SUM(framed_bytes), SUM(payload_bytes), SUM(samples) "
        f"FROM messages GROUP BY {', '.join(LABELS)}"
    ).fetchall()
    ledgers.close()
    names = ("mple_messages", "mple_message_bytes", "mple_message_payload_bytes", "mple_message_samples")
    for place, name in enumerate(names, start=len(LABELS)):
        assert values(found[name], *LABELS) == {row[: len(LABELS)]: row[place] for row in rows}
    assert values(found["mple_received_samples"], "split") == {("train",): 240.0, ("test",): 60.0}
    assert values(found["mple_cached_samples"], "split") == {("train",): 240.0, ("test",): 60.0}
    assert values(found["mple_trained_samples"]) == {(): 480.0}
    outcome = json.loads((folder.state(COMPUTE) / "outcome.json").read_text())
    assert values(found["mple_trainer_idle_seconds"], "cause") == {
        (cause,): seconds for cause, seconds in outcome["idle_seconds_by_cause"].items()
    }
    assert values(found["mple_augmented_layer_seconds"]) == {(): outcome["augconv_seconds"]}
    log = (folder.state(folder.sites[1]) / "log.jsonl").read_text()
    assert "metrics at" not in log  # this one has none


@pytest.mark.parametrize("killed", [False, True])
def test_tensorboard_reads_the_run_at_the_top_of_its_folder(tmp_path: Path, killed: bool) -> None:
    """Also after the compute node was killed behind a checkpoint: each step once, as the run went in the end."""
    epochs = 12 if killed else 2
    settings = small_settings(write_pictures(tmp_path / "set.npz"), epochs=epochs)
    machine = replace(settings.machine, checkpoint_every_steps=7)
    folder = lay_out(tmp_path / "run", replace(settings, machine=machine))
    with Children(10.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        if killed:
            wait_for_checkpoint(folder)
            assert children.kill(COMPUTE) == 137
            start_node(children, folder, COMPUTE)
        assert set(wait_for_end(children, set(folder.nodes)).values()) == {ExitCode.DONE}
    assert ("resumed" in (folder.state(COMPUTE) / "log.jsonl").read_text()) is killed
    summarise(folder.path)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    found = points_in(folder.path / "tensorboard")
    losses = [loss for line in lines if line["kind"] == "step" for loss in line["losses"]]
    assert found["train/loss"] == list(enumerate(losses, start=1))
    assert len(losses) == 10 * epochs
    scored = [line for line in lines if line["kind"] == "epoch"]
    for name in METRICS:
        epochs_told, told = zip(*found[f"epoch/test_{name}"], strict=True)
        assert epochs_told == tuple(range(1, epochs + 1))
        assert told == pytest.approx([line["scores"][name] for line in scored], rel=1e-6)


def wait_for_checkpoint(folder: RunFolder) -> None:
    """Return once the compute node has one and has gone on."""
    checkpoints, metrics = folder.state(COMPUTE) / "checkpoints", folder.state(COMPUTE) / "metrics.jsonl"
    give_up_at = time.monotonic() + 60
    while not any(checkpoints.glob("*.safetensors")) or metrics.read_text().count("epoch") < 2:
        assert time.monotonic() < give_up_at, "no checkpoint"
        time.sleep(0.01)


def points_in(events: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every point in the order of the one file, by tag, as TensorBoard's own loader reads it."""
    (path,) = events.iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found
