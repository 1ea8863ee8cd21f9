"""A run's tables say which sites have the trained network."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.report import print_summary
from tests.support.finished_run import finished_run


@pytest.mark.parametrize(
    ("delivered", "sentence"),
    [
        (("north", "south"), "the trained network is in nodes/SITE/state/model of north, south\n"),
        (("south",), "the trained network is in nodes/SITE/state/model of south; without it: north\n"),
        ((), "the trained network is in nodes/SITE/state/model of no site; without it: north, south\n"),
        (None, None),
    ],
)
def test_the_tables_say_who_has_the_network(
    tmp_path: Path, delivered: tuple[str, ...] | None, sentence: str | None
) -> None:
    summary = finished_run(tmp_path / "run")
    summary = dataclasses.replace(summary, outcome=dataclasses.replace(summary.outcome, delivered=delivered))
    screen = StringIO()
    print_summary(summary, Console(file=screen, width=80))
    assert (sentence is None) == ("trained network is in" not in screen.getvalue())
    assert sentence is None or sentence in screen.getvalue()
    assert summary.to_json()["delivered"] == delivered
