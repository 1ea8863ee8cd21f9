"""The keys of a run as pure state: who may go where, what is told of it, and that a site always keeps a usable key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.site_keys import (
    MOST_EPOCHS,
    AnnounceErasure,
    AnnounceKey,
    ErasureReported,
    KeyAnnounced,
    KeyEvent,
    Keys,
    KeyState,
    KeyStep,
    KeyWithdrawn,
    RotationAccepted,
    RotationStored,
    SiteKey,
    find_key,
    step_keys,
)
from mple.rpc import ErrorCode, MpleError
from tests.support.small_run import refused

PLANNED: Keys = (SiteKey("north", 1, "n1"), SiteKey("south", 1, "s1"))
NEXT = KeyAnnounced("north", 2, "n2")
RELEASED = RotationAccepted("north", 2)
STORED = RotationStored("north", 2, "n2")
OLD_GOES = KeyWithdrawn("north", 1, "n1")
ERASED = ErasureReported("north", 1, "n1", samples=5, layer_bytes=7)


def take(keys: Keys, *events: KeyEvent, training: bool = True) -> KeyStep:
    news: list[object] = []
    for event in events:
        keys, more = step_keys(keys, event, training=training, escrow=False)
        news.extend(more)
    return keys, tuple(news)  # type: ignore[arg-type]


def test_a_rotation_and_a_revocation_from_end_to_end() -> None:
    keys, news = take(PLANNED, NEXT, RELEASED, STORED, OLD_GOES, ERASED)
    assert [key.state for key in keys] == [KeyState.ERASED, KeyState.READY, KeyState.READY]
    first, second = keys[0], keys[2]
    assert second == SiteKey("north", 2, "n2")
    assert news == (
        AnnounceKey(SiteKey("north", 2, "n2", KeyState.RELEASED)),
        AnnounceKey(second),
        AnnounceKey(SiteKey("north", 1, "n1", KeyState.REVOKED)),
        AnnounceErasure(first, 5, 7),
    )


@pytest.mark.parametrize("done", range(6))
def test_repeats_change_nothing(done: int) -> None:
    events = (NEXT, RELEASED, STORED, OLD_GOES, ERASED)[:done]
    keys, _ = take(PLANNED, *events)
    assert take(keys, *events) == (keys, ())


def test_the_key_in_use_is_not_revoked_while_the_run_trains() -> None:
    for events in ((), (NEXT,), (NEXT, RELEASED)):
        keys, _ = take(PLANNED, *events)
        with refused(ErrorCode.KEY_CHANGE_REFUSED, "has no successor that is in use; rotate first: mple keys rotate"):
            take(keys, OLD_GOES)
    keys, news = take(PLANNED, OLD_GOES, training=False)
    assert keys[0].state is KeyState.REVOKED and len(news) == 1, "after the run any key may go"


@pytest.mark.parametrize(
    ("event", "code", "words"),
    [
        (KeyAnnounced("north", 1, "other"), ErrorCode.KEY_CHANGE_REFUSED, "does not follow on its newest, 1"),
        (KeyAnnounced("north", 0, "other"), ErrorCode.KEY_CHANGE_REFUSED, "does not follow on its newest, 1"),
        (KeyAnnounced("north", 3, "n1"), ErrorCode.KEY_CHANGE_REFUSED, "is a key that the run has already"),
        (RotationAccepted("north", 2), ErrorCode.UNKNOWN_KEY_REF, "key north:2: is not a key of this run"),
        (RotationStored("north", 1, "n2"), ErrorCode.UNKNOWN_KEY_REF, "key north:1:n2 is not a key of this run"),
        (KeyWithdrawn("south", 2, "s2"), ErrorCode.UNKNOWN_KEY_REF, "key south:2:s2 is not a key of this run"),
        (KeyWithdrawn("north", 1, "s1"), ErrorCode.UNKNOWN_KEY_REF, "key north:1:s1 is not a key of this run"),
        (ERASED, ErrorCode.KEY_CHANGE_REFUSED, "key north:1:n1 is not revoked"),
    ],
)
def test_what_can_not_be(event: KeyEvent, code: ErrorCode, words: str) -> None:
    with refused(code, words):
        take(PLANNED, event)


def test_no_rotation_in_escrow_nor_after_training() -> None:
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "in escrow custody .* the next run takes the new one"):
        step_keys(PLANNED, NEXT, training=True, escrow=True)
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "keys are rotated while a run trains"):
        take(PLANNED, NEXT, training=False)
    keys, _ = take(PLANNED, NEXT)
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "comes too late"):
        take(keys, RELEASED, training=False)


def test_a_key_whose_layer_never_came_gives_way() -> None:
    keys, _ = take(PLANNED, NEXT, KeyAnnounced("north", 3, "n3"))
    assert find_key(keys, "north", 2) is None
    keys, news = take(keys, RotationAccepted("north", 3), RotationStored("north", 3, "n3"))
    keys, more = take(keys, KeyAnnounced("north", 4, "n4"), KeyAnnounced("north", 5, "n5"))
    assert (len(news), more) == (2, ())
    assert [key.epoch for key in keys if key.site == "north"] == [1, 3, 5]


def test_a_site_can_not_rotate_for_ever() -> None:
    keys = PLANNED
    for epoch in range(2, MOST_EPOCHS + 1):
        print_ = f"n{epoch}"
        keys, _ = take(
            keys, KeyAnnounced("north", epoch, print_), RotationAccepted("north", epoch),
            RotationStored("north", epoch, print_), KeyWithdrawn("north", epoch - 1, f"n{epoch - 1}"),
        )  # fmt: skip
    with refused(ErrorCode.KEY_CHANGE_REFUSED, f"has had {MOST_EPOCHS} keys in this run"):
        take(keys, KeyAnnounced("north", MOST_EPOCHS + 1, "more"))


def any_event(epoch: int, kind: int) -> KeyEvent:
    print_ = f"n{epoch}"
    return (
        KeyAnnounced("north", epoch, print_),
        RotationAccepted("north", epoch),
        RotationStored("north", epoch, print_),
        KeyWithdrawn("north", epoch, print_),
        ErasureReported("north", epoch, print_, 1, 1),
    )[kind]


@given(st.lists(st.builds(any_event, st.integers(1, 4), st.integers(0, 4)), max_size=30))
def test_a_site_always_keeps_a_key_that_is_ready(events: list[KeyEvent]) -> None:
    keys = PLANNED
    for event in events:
        before = keys
        try:
            keys, _ = take(keys, event)
        except MpleError:
            assert keys is before
        north = [key for key in keys if key.site == "north"]
        assert any(key.state is KeyState.READY for key in north)
        assert [key.epoch for key in north] == sorted({key.epoch for key in north})
