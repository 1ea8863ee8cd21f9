"""A log that peers make a node write does not grow without end, and says how much it has left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mple.node.logs import log, open_log
from mple.records.state_files import LOG

MOST = 100


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    open_log(tmp_path, "north")
    yield tmp_path
    logging.getLogger().handlers.clear()


def lines(state: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (state / LOG).read_text(encoding="utf-8").splitlines()]


def test_a_flood_of_one_event_leaves_others_their_lines_and_is_told_as_a_number(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(10_000):
        log("epoch", f"epoch {number}")
    log("finished", "the run has finished")
    assert len(lines(state)) == MOST + 1
    assert capsys.readouterr().err.count("epoch ") <= MOST, "nor is the terminal flooded"
    for handler in logging.getLogger().handlers:
        handler.close()
    (more,) = [line for line in lines(state) if line["event"] == "lines_more"]
    assert (more["lines"], more["text"]) == (10_000 - MOST, "9900 more lines of 'epoch' were left out")


def test_each_party_has_lines_of_its_own(state: Path) -> None:
    for number in range(MOST + 50):
        log("feed_open", f"stream {number}", site="south")
    for number in range(30):
        log("feed_open", f"stream {number}", site="west")
    sites = [line["site"] for line in lines(state)]
    assert (sites.count("south"), sites.count("west")) == (MOST, 30)


def test_what_a_library_writes_is_bounded_by_its_place_whatever_the_text(state: Path) -> None:
    for number in range(500):
        logging.getLogger("grpc._server").error(f"Exception {number}")
    assert len(lines(state)) == MOST
