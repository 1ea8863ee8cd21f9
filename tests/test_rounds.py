"""One thread looks for all nodes of a process, and works for each in its turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from mple import rounds
from mple.per_node import PerNode, as_another_node
from mple.rounds import each_second

_name = PerNode("process")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rounds, "EVERY_S", 0.01)
    looks = len(rounds._looks)
    yield
    assert len(rounds._looks) == looks, "whoever begins a look ends it"


def test_each_node_looks_as_itself_in_the_same_thread() -> None:
    seen: dict[str, set[int]] = {"north": set(), "south": set()}
    all_looked = threading.Event()

    def look() -> None:
        seen[_name.get()].add(threading.get_ident())
        if all(seen.values()):
            all_looked.set()

    def begin(name: str) -> object:
        _name.set(name)
        return each_second(look)

    ends = [as_another_node(partial(begin, name)) for name in seen]
    assert all_looked.wait(30)
    for end in ends:
        end()  # type: ignore[operator]
    threads = set.union(*seen.values())
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_look_that_fails_is_told_and_neither_ends_the_others_nor_itself(caplog: pytest.LogCaptureFixture) -> None:
    failed, looked = threading.Semaphore(0), threading.Semaphore(0)

    def fail() -> None:
        failed.release()
        raise ZeroDivisionError("a fault of ours")

    with caplog.at_level(logging.ERROR):
        ends = [each_second(fail), each_second(looked.release)]
        for counted in (failed, failed, looked, looked):
            assert counted.acquire(timeout=30)
        for end in ends:
            end()
            end()
    assert "a look that is due each second failed: ZeroDivisionError('a fault of ours')" in caplog.text
