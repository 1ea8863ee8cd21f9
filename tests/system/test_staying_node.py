"""A compute node that outlives its run: its metrics over HTTP, its answers to predictions, and what TensorBoard reads.

One run of real processes serves all tests but the last.
"""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from mple.data.partitions import SPLITS
from mple.disk.json_records import read_record
from mple.exit_codes import ExitCode
from mple.records import state_files
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.scores import NetworkScores
from mple.records.site_scores import SiteScores
from mple.report import summarise
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import EndpointSettings
from tests.support.small_consortium import (
    answer_on,
    epochs_done,
    small_settings,
    start_node,
    wait_for_end,
    wait_until,
    write_pictures,
)

LABELS = ("method", "kind", "direction", "peer")
ANY_PORT = "127.0.0.1:0"
VALIDATED = ("accuracy", "loss", "ece")
"""By what each epoch is told with so few validation pictures that the rest is withheld."""


@dataclass(frozen=True, kw_only=True)
class Stayed:
    """A run of two epochs whose compute node was told to stay, and what it said afterwards."""

    folder: RunFolder
    metrics: dict[str, Metric]
    ledger: dict[tuple[str, ...], tuple[float, ...]]
    """Messages, framed and payload bytes, and samples by `LABELS`, when the metrics were asked for."""
    answers: tuple[dict[str, object], dict[str, object]]
    """On one picture, before and after a restart of the compute node with nobody else left."""


@pytest.fixture(scope="module")
def stayed(tmp_path_factory: pytest.TempPathFactory) -> Stayed:
    path = tmp_path_factory.mktemp("stayed")
    pictures, picture = write_pictures(path / "set.npz"), path / "new.png"
    Image.fromarray(np.load(pictures)["x_test"][0]).save(picture)
    endpoints = EndpointSettings(coordinator=ANY_PORT, compute=ANY_PORT, sites=(ANY_PORT, ""))
    folder = lay_out(path / "run", replace(small_settings(pictures, epochs=2, most_val=8), monitoring=endpoints))
    with Children(10.0) as children:
        start_node(children, folder, COMPUTE, "--set", "stay=true")
        for name in (COORDINATOR, *folder.sites):
            start_node(children, folder, name)
        for name in (COORDINATOR, folder.sites[0]):
            (about,) = asked(folder, name)["mple_node_info"].samples
            assert about.labels["node"].endswith(f"/{name}")
        codes = wait_for_end(children, {COORDINATOR, *folder.sites})
        assert set(codes.values()) == {ExitCode.DONE}
        metrics, ledger = asked(folder, COMPUTE), ledger_of(folder)
        before = answer_on(folder, picture)
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]
    with Children(10.0) as children:
        start_node(children, folder, COMPUTE, "--set", "stay=true")
        after = answer_on(folder, picture)
        assert [ended.code for ended in children.stop()] == [ExitCode.INTERRUPTED]
    return Stayed(folder=folder, metrics=metrics, ledger=ledger, answers=(before, after))


def asked(folder: RunFolder, name: str) -> dict[str, Metric]:
    """The metrics of a node, at the address that its log names."""
    log = folder.state(name) / state_files.LOG

    def addresses() -> list[str]:
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line["address"] for line in lines if line["event"] == "monitoring"]

    wait_until(lambda: bool(addresses()))
    with urllib.request.urlopen(f"http://{addresses()[-1]}/metrics", timeout=30) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def ledger_of(folder: RunFolder) -> dict[tuple[str, ...], tuple[float, ...]]:
    """Sums over the compute node's ledger."""
    ledger = sqlite3.connect(folder.state(COMPUTE) / state_files.LEDGER)
    rows = ledger.execute(
        f"SELECT {', '.join(LABELS)}, COUNT(*), SUM(framed_bytes), SUM(payload_bytes), SUM(samples) "
        f"FROM messages GROUP BY {', '.join(LABELS)}"
    ).fetchall()
    ledger.close()
    return {row[: len(LABELS)]: row[len(LABELS) :] for row in rows}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """Values by those of some labels."""
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def test_every_node_tells_what_its_ledger_says(stayed: Stayed) -> None:
    found, folder = stayed.metrics, stayed.folder
    names = ("mple_messages", "mple_message_bytes", "mple_message_payload_bytes", "mple_message_samples")
    for place, name in enumerate(names):
        assert values(found[name], *LABELS) == {labels: sums[place] for labels, sums in stayed.ledger.items()}
    samples = {(site.name, split): getattr(site, f"{split}_images") for site in folder.plan().sites for split in SPLITS}
    count = {(split,): sum(samples[site, split] for site in folder.sites) for split in SPLITS}
    assert (count[("val",)], count[("test",)]) == (16, 60)
    assert values(found["mple_received_samples"], "split") == count
    assert values(found["mple_cached_samples"], "split") == count
    assert values(found["mple_trained_samples"]) == {(): 2 * count[("train",)]}
    assert values(found["mple_val_score"], "metric").keys() == {(name,) for name in VALIDATED}
    tested = {name: value for (name,), value in values(found["mple_test_score"], "metric").items()}
    assert tested.keys() >= set(VALIDATED)
    summary = summarise(folder.path)
    assert tested == {name: summary.scores[name] for name in tested}
    outcome = json.loads((folder.state(COMPUTE) / state_files.OUTCOME).read_text())
    assert values(found["mple_trainer_idle_seconds"], "cause") == {
        (cause,): seconds for cause, seconds in outcome["idle_seconds_by_cause"].items()
    }
    assert values(found["mple_augmented_layer_seconds"]) == {(): outcome["augconv_seconds"]}
    log = (folder.state(folder.sites[1]) / state_files.LOG).read_text()
    assert "metrics at" not in log  # this one has none


def test_it_answers_after_the_run_and_alike_after_a_restart(stayed: Stayed) -> None:
    before, after = stayed.answers
    assert before["predictions"]
    assert after == before


def test_every_site_has_a_file_of_its_scores(stayed: Stayed) -> None:
    plan = stayed.folder.plan()
    scores = read_record(NetworkScores, stayed.folder.state(COMPUTE) / state_files.SCORES)
    for site in plan.sites:
        path = stayed.folder.state(site.name) / state_files.SITE_SCORES.format(plan.run_id)
        found = read_record(SiteScores, path)
        assert found.epoch == scores.kept_epoch
        assert found.val is not None
        assert found.test is not None
        assert (found.val.samples, found.test.samples) == (site.val_images, site.test_images)
        pooled_val = {name: one.value for name, one in found.pooled_val.items()}
        assert pooled_val == pytest.approx(scores.values_of_val(plan.outputs), rel=1e-12)
        assert pooled_val.keys() == set(VALIDATED)
        pooled_test = {name: one.value for name, one in found.pooled_test.items()}
        assert pooled_test == pytest.approx(scores.values_of_test(plan.outputs), rel=1e-12)
        right = sum(row[place] for place, row in enumerate(found.test.figures.confusion))
        assert found.test.metrics["accuracy"].value == right / site.test_images
        assert not list(path.parent.glob(state_files.SCORED_LOGITS.format("*"))), "they are needed no more"


def test_tensorboard_reads_the_run_at_the_top_of_its_folder(stayed: Stayed) -> None:
    assert "resumed" not in (stayed.folder.state(COMPUTE) / state_files.LOG).read_text()
    tensorboard_has(stayed.folder, epochs=2)


def test_tensorboard_reads_a_resumed_run_as_it_went_in_the_end(tmp_path: Path) -> None:
    """After the compute node was killed behind a checkpoint: each step once."""
    settings = small_settings(write_pictures(tmp_path / "set.npz"), epochs=12, most_val=8)
    machine = replace(settings.machine, checkpoint_every_steps=7)
    folder = lay_out(tmp_path / "run", replace(settings, machine=machine))
    checkpoints = folder.state(COMPUTE) / state_files.CHECKPOINTS
    with Children(10.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        wait_until(lambda: any(checkpoints.glob("*.safetensors")) and epochs_done(folder) >= 1)
        assert children.kill(COMPUTE) == 137
        start_node(children, folder, COMPUTE)
        assert set(wait_for_end(children, set(folder.nodes)).values()) == {ExitCode.DONE}
    assert "resumed" in (folder.state(COMPUTE) / state_files.LOG).read_text()
    tensorboard_has(folder, epochs=12)


def tensorboard_has(folder: RunFolder, *, epochs: int) -> None:
    """Losses of every step and scores of every epoch, each once and in order."""
    summarise(folder.path)
    lines = [json.loads(line) for line in (folder.path / state_files.METRICS).read_text().splitlines()]
    found = points_in(folder.path / state_files.TENSORBOARD)
    losses = [loss for line in lines if line["kind"] == "step" for loss in line["losses"]]
    assert found["train/loss"] == list(enumerate(losses, start=1))
    assert len(losses) == 9 * epochs
    scored = [line for line in lines if line["kind"] == "epoch"]
    for name in VALIDATED:
        epochs_told, told = zip(*found[f"epoch/val_{name}"], strict=True)
        assert epochs_told == tuple(range(1, epochs + 1))
        assert told == pytest.approx([line["scores"][name] for line in scored], rel=1e-6)
    (kept,) = (line for line in lines if line["kind"] == "network")
    for name, value in kept["scores"].items():
        assert found[f"network/test_{name}"] == [(kept["epoch"], pytest.approx(value, rel=1e-6))]


def points_in(events: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every point in the order of the one file, by tag, as TensorBoard's own loader reads it."""
    (path,) = events.iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found
