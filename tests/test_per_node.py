"""What each node of a process has for itself follows the node's threads, and nobody else's."""

from __future__ import annotations

import threading
from functools import partial

from mple.per_node import PerNode, as_another_node, is_one_of_several, start_thread

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
