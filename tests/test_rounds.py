"""One thread looks for all nodes of a process, and works for each in its turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

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


def test_looks_that_take_long_come_so_seldom_that_they_take_a_fiftieth_of_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "EVERY_S", 1.0)
    assert [rounds._pause_s(taken_s) for taken_s in (0.0, 0.02, 0.04, 3.0)] == pytest.approx([1.0, 1.0, 2.0, 150.0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_rounds_are_as_far_apart_as_the_one_before_took_long() -> None:
    """A look works for a tenth of a second by its thread's clock: the next round comes five seconds later."""
    clock_s, slept_s = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        if len(slept_s) == 3:
            looks.clear()
            raise SystemExit  # the thread ends, silently

    def look() -> None:
        clock_s[0] += 0.1

    own = ModuleType("rounds_of_this_test")  # other tests' rounds may be going on in the module itself
    assert rounds.__file__ is not None
    exec(compile(Path(rounds.__file__).read_text(), rounds.__file__, "exec"), own.__dict__)
    looks = {object(): (copy_context(), look)}
    own.__dict__.update(
        time=SimpleNamespace(sleep=sleep, thread_time=lambda: clock_s[0]), _looks=looks, EVERY_S=rounds.EVERY_S
    )
    going = threading.Thread(target=own.__dict__["_go_round"], daemon=True)
    going.start()
    going.join(30)
    assert slept_s == pytest.approx([0.01, 5.0, 5.0])


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
