"""Reading a run while it is written: whole lines only, ledgers of live nodes, a plan once it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mple.disk.damage import with_checksum
from mple.meter import Ledger, MessageFacts, MessageKind
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.training import metrics_line
from mple.simulate.progress import Progress
from mple.simulate.run_monitor import LineTail, RunMonitor
from tests.support.ledger_entries import RECEIVED, SENT, entry
from tests.support.small_plan import small_plan
from tests.support.training_records import step_metrics

PLAN = small_plan()
SITES = tuple(site.name for site in PLAN.sites)
DATA = MessageFacts(MessageKind.DATA, payload_bytes=90, samples=7)
TEST_DATA = MessageFacts(MessageKind.TEST_DATA, payload_bytes=90, samples=2)
REQUEST = MessageFacts(MessageKind.REQUEST, samples=9)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder whose name needs quoting in a URI."""
    made = RunFolder(tmp_path / "run #1 100%3F?", SITES)
    for name in made.nodes:
        made.state(name).mkdir(parents=True)
    return made


def say(path: Path, *lines: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_line_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    tail = LineTail(path)
    assert tail.new_lines() == []
    path.write_bytes(b'{"a": 1}\n{"b": "h\xc3')
    assert tail.new_lines() == [b'{"a": 1}\n']
    assert tail.new_lines() == []
    with path.open("ab") as file:
        file.write(b'\xa9"}\n\n{"c": 3}\n')
    assert tail.new_lines() == ['{"b": "hé"}\n'.encode(), b'{"c": 3}\n']


def test_a_file_that_was_cut_and_has_grown_again_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = LineTail(path)
    path.write_bytes(b"1\n2\n")
    assert tail.new_lines() == [b"1\n", b"2\n"]
    path.write_bytes(b"1\n")
    assert tail.new_lines() == [b"1\n"]
    path.write_bytes(b"10\n20\n30\n")
    assert tail.new_lines() == [b"10\n", b"20\n", b"30\n"]
    assert tail.new_lines() == []


def test_before_anything_is_written_all_sites_are_there_and_at_nought(folder: RunFolder) -> None:
    progress = Progress()
    RunMonitor(folder).read(progress)
    assert tuple(progress.sites) == SITES
    assert all(site.samples_sent == site.images == 0 for site in progress.sites.values())
    assert progress.phase == "starting"
    assert progress.news == []


def test_a_plan_says_how_much_is_to_come(folder: RunFolder) -> None:
    monitor, progress = RunMonitor(folder), Progress()
    path = folder.state(COMPUTE) / "plan.json"
    path.write_bytes(PLAN.to_json()[:40])
    monitor.read(progress)
    assert progress.plan == ""
    path.write_bytes(with_checksum(PLAN.to_json()))
    monitor.read(progress)
    assert PLAN.sha256().hex().startswith(progress.plan)
    assert len(progress.plan) == 16
    assert progress.training.epochs == PLAN.training.epochs
    for site in PLAN.sites:
        assert progress.sites[site.name].images == site.train_images + site.test_images


def test_logs_and_metrics_are_followed(folder: RunFolder) -> None:
    monitor, progress = RunMonitor(folder), Progress()
    say(folder.state(COORDINATOR) / "log.jsonl", {"event": "phase", "level": "info", "text": "x", "phase": "training"})
    say(folder.state(SITES[0]) / "log.jsonl", {"event": "retry", "level": "info", "text": "away"})
    monitor.read(progress)
    assert (progress.phase, progress.sites[SITES[0]].retries) == ("training", 1)
    assert progress.training_began_s is None
    with (folder.state(COMPUTE) / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(metrics_line(step_metrics(step=3, loss=0.5)))
    monitor.read(progress)
    assert progress.training.last == step_metrics(step=3, loss=0.5)
    assert progress.training_began_s is not None


def test_who_failed_is_the_coordinators_word(folder: RunFolder) -> None:
    progress = Progress()
    fault = {"event": "party_failed", "level": "error", "text": "site/south: no disk", "party": "site/south"}
    say(folder.state(COORDINATOR) / "log.jsonl", fault)
    RunMonitor(folder).read(progress)
    assert progress.failed_party == "south"
    assert progress.news == ["coordinator: site/south: no disk"]


def test_ledgers_are_read_while_their_node_writes_them(folder: RunFolder) -> None:
    monitor, progress = RunMonitor(folder, ledger_every_s=0.0), Progress()
    (folder.state(SITES[1]) / "ledger.sqlite").touch()  # made, but without a table yet
    with Ledger(folder.state(SITES[0]) / "ledger.sqlite", f"site/{SITES[0]}") as ledger:
        ledger.record(entry(SENT, "feed", 0, 100, DATA))
        ledger.record(entry(SENT, "feed", 1, 100, TEST_DATA))
        ledger.record(entry(RECEIVED, "feed", 0, 20, REQUEST))
        monitor.read(progress)
        first = progress.sites[SITES[0]]
        assert (first.samples_sent, first.bytes_up, first.bytes_down) == (9, 210, 25)
        ledger.record(entry(SENT, "feed", 2, 100, DATA))
        monitor.read(progress)
    assert (first.samples_sent, first.bytes_up) == (16, 315)
    assert first.rate > 0
    assert progress.sites[SITES[1]].bytes_up == 0


def test_of_many_sites_each_reading_looks_at_some_and_the_last_at_all(tmp_path: Path) -> None:
    names = tuple(f"site-{number:03}" for number in range(100))
    folder = RunFolder(tmp_path, names)
    for name in folder.nodes:
        folder.state(name).mkdir(parents=True)
        say(folder.state(name) / "log.jsonl", {"event": "retry", "level": "info", "text": "away"})
    for name in names:
        with Ledger(folder.state(name) / "ledger.sqlite", f"site/{name}") as ledger:
            ledger.record(entry(SENT, "feed", 0, 100, DATA))
    monitor, progress = RunMonitor(folder, ledger_every_s=0.0), Progress()
    seen = []
    for _ in range(13):
        monitor.read(progress)
        seen.append(sum(site.retries for site in progress.sites.values()))
        assert sum(site.samples_sent == 7 for site in progress.sites.values()) == seen[-1]
    assert seen == [*range(8, 100, 8), 100]
    for name in names:
        say(folder.state(name) / "log.jsonl", {"event": "retry", "level": "info", "text": "away"})
    monitor.read(progress, whole=True)
    assert all(site.retries == 2 for site in progress.sites.values())
