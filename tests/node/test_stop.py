"""The wish to end: waiters wake, callbacks run exactly once, withdrawn ones never."""

from __future__ import annotations

import threading

from mple.node.stop import Stop


def test_waiters_wake_and_callbacks_run_once() -> None:
    stop, ran = Stop(), list[str]()
    stop.on_set(lambda: ran.append("first"))
    withdraw = stop.on_set(lambda: ran.append("withdrawn"))
    withdraw()
    waiter = threading.Thread(target=lambda: ran.append(f"woken {stop.wait(30)}"))
    waiter.start()
    assert not stop.is_set()
    stop.set()
    waiter.join(30)
    stop.set()
    stop.on_set(lambda: ran.append("late"))()
    withdraw()
    assert stop.is_set()
    assert sorted(ran) == ["first", "late", "woken True"]


def test_time_without_the_wish() -> None:
    assert not Stop().wait(0.01)


def test_a_callback_may_register_another() -> None:
    stop, ran = Stop(), list[str]()
    stop.on_set(lambda: stop.on_set(lambda: ran.append("inner")) and None)
    stop.set()
    assert ran == ["inner"]
