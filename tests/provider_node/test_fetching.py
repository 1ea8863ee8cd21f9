"""What a node says and does while its pictures are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mple.data import DataSource
from mple.data.settings import Told, Wait, untold
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from provider_node.fetching import fetched


@dataclass(frozen=True, kw_only=True)
class FarSource(DataSource):
    """Pictures that a test fetches."""

    kind: str = "far"
    way: Callable[[Told, Wait], None]

    def fetched(self, told: Told = untold, wait: Wait = lambda _: None) -> DataSource:
        self.way(told, wait)
        return self


def test_the_log_tells_each_step_and_then_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0

    def way(told: Told, _wait: Wait) -> None:
        nonlocal now_s
        for done in range(25):
            told("fetching", done, 25)
            now_s += 1.0
        told("fetched", 25, 25)

    caplog.set_level("INFO")
    source = FarSource(way=way)
    assert fetched(source, Stop(), lambda: now_s) is source
    expected = ["fetching: 0 of 25", "fetching: 10 of 25", "fetching: 20 of 25", "fetched: 25 of 25"]
    assert [record.getMessage() for record in caplog.records] == expected


def test_a_node_that_is_to_end_ends_between_two_pictures() -> None:
    stop, taken = Stop(), list[int]()

    def way(_told: Told, wait: Wait) -> None:
        for number in range(5):
            wait(0.0)
            taken.append(number)
            stop.set()

    with pytest.raises(StoppedError):
        fetched(FarSource(way=way), stop)
    assert taken == [0]


def test_files_are_there_already(tmp_path: Path) -> None:
    source = DataSource(kind="npz")
    assert fetched(source, Stop()) is source
