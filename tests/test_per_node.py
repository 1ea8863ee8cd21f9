"""What each node of a process has for itself follows the node's threads, and nobody else's."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from mple.per_node import Common, PerNode, as_another_node, is_one_of_several, start_thread

_name = PerNode("nobody")


def seen_in_a_thread_of_its_own() -> str:
    seen: list[str] = []
    start_thread("look", lambda: seen.append(_name.get())).join()
    return seen[0]


def test_each_node_has_its_own_value_in_all_its_threads() -> None:
    _name.set("process")
    try:
        seen: dict[str, str] = {}
        together = threading.Barrier(2)

        def live(name: str) -> None:
            assert _name.get() == "nobody", "a new node has set nothing"
            assert is_one_of_several()
            _name.set(name)
            together.wait(30)
            seen[name] = seen_in_a_thread_of_its_own()
            start_thread("change", lambda: _name.set(f"{name} renamed")).join()
            assert _name.get() == f"{name} renamed"

        bodies = [partial(as_another_node, partial(live, name)) for name in ("north", "south")]
        lives = [threading.Thread(target=body) for body in bodies]
        for life in lives:
            life.start()
        for life in lives:
            life.join(30)
        assert seen == {"north": "north", "south": "south"}
        assert not is_one_of_several()
        assert _name.get() == seen_in_a_thread_of_its_own() == "process"
    finally:
        _name.set("nobody")


def test_what_all_work_out_alike_is_worked_out_once() -> None:
    common: Common[str, list[int]] = Common()
    made: list[str] = []
    together = threading.Barrier(4)

    def look(key: str) -> None:
        together.wait(30)
        common.get(key, partial(make, key))

    def make(key: str) -> list[int]:
        made.append(key)
        return []

    lookers = [threading.Thread(target=look, args=("plan",)) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join(30)
    assert made == ["plan"]
    assert common.get("other", partial(make, "other")) is common.get("other", partial(make, "other"))
    assert made == ["plan", "other"]


def test_what_could_not_be_made_is_made_at_the_next_call() -> None:
    common: Common[None, str] = Common()
    with pytest.raises(OSError, match="gone"):
        common.get(None, _gone)
    assert common.get(None, lambda: "here") == "here"


def _gone() -> str:
    raise OSError("gone")
