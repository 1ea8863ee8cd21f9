"""Sites that stay away: waiting, its end, and going on without them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from mple.plan import AbsencePolicy
from mple.rpc import ErrorCode, MpleError
from tests.support.open_intake import IDLE_S, OpenIntake, answer, awaited, score
from tests.support.small_plan import TEST, TRAIN


def test_waiting_ends_when_nothing_has_come_for_too_long(window: Callable[..., OpenIntake]) -> None:
    """Progress at 20 s puts the end off from 30 s to 50 s; what is named is who owes something."""
    one = window()
    one.want()
    asked = one.request("north")
    faults: list[MpleError] = []

    def wait() -> None:
        try:
            one.intake.wait_for(TRAIN, np.arange(9))
        except MpleError as fault:
            faults.append(fault)

    one.clock.set(0.0)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    one.clock.wait_until_seen()
    one.pass_time(0, 20)
    one.intake.take_batch("north", answer("north", asked))
    one.intake.take_batch("north", answer("north", one.request("north")))
    one.pass_time(20, 49)
    with one.changed:  # whoever has looked at 49 s now waits again, or has given up
        assert not faults
    one.pass_time(49, 50)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert [fault.code for fault in faults] == [ErrorCode.STALLED]
    assert "no samples came in for 30 s; due from south" in str(faults[0])


def test_time_in_which_this_process_stood_still_does_not_count(window: Callable[..., OpenIntake]) -> None:
    """After SIGCONT the clock is an hour ahead; nobody has been silent for an hour."""
    one = window()
    one.want()
    one.clock.set(0.0)
    waiting = threading.Thread(target=one.intake.wait_for, args=(TRAIN, np.arange(9)), daemon=True)
    waiting.start()
    one.clock.wait_until_seen()
    one.pass_time(3600, 3601)
    one.feed("north")
    one.feed("south")
    waiting.join(timeout=30)
    assert not waiting.is_alive()


def test_training_proceeds_without_a_silent_site_and_waits_for_it_again_once_it_is_back(
    window: Callable[..., OpenIntake],
) -> None:
    one = window(policy=AbsencePolicy.PROCEED)
    sampler = one.want()
    one.feed("north")
    numbers = sampler.epoch_order(0)
    here: list[list[int]] = []
    one.clock.set(0.0)
    waiting = threading.Thread(target=lambda: here.append(one.intake.wait_for(TRAIN, numbers).tolist()), daemon=True)
    waiting.start()
    one.clock.wait_until_seen()
    one.pass_time(0, int(IDLE_S))
    waiting.join(timeout=30)
    assert here == [[number for number in numbers.tolist() if number < 5]], "north has the numbers 0 to 4"
    assert one.intake.wait_for(TRAIN, numbers).size == 5, "nobody waits for an absent site again"
    tests = np.arange(5)
    assert one.intake.wait_for(TEST, tests).tolist() == [0, 1, 2]
    logits_TC = np.zeros((5, 3), np.float32)
    scored_T = np.array([True, True, True, False, False])
    asked = threading.Thread(
        target=lambda: here.append(sorted(one.intake.scores(TEST, 1, logits_TC, scored_T))), daemon=True
    )
    asked.start()
    message = awaited(one.intake, "north")
    assert message is not None
    one.intake.take_score("north", score(message.logits))
    asked.join(timeout=30)
    assert here[1] == ["north"]
    with one.intake.stream("south"):
        one.clock.set(0.0)
        again = threading.Thread(target=lambda: here.append(one.intake.wait_for(TRAIN, numbers).tolist()), daemon=True)
        again.start()
        one.feed("south")
        again.join(timeout=30)
        assert here[2] == numbers.tolist()


def test_a_site_that_has_said_it_failed_is_not_waited_for(window: Callable[..., OpenIntake]) -> None:
    one = window(policy=AbsencePolicy.PROCEED)
    sampler = one.want()
    one.feed("north")
    one.intake.leave("south")
    assert one.intake.wait_for(TRAIN, sampler.epoch_order(0)).size == 5


def test_a_score_that_comes_too_late_is_passed_over(window: Callable[..., OpenIntake]) -> None:
    one = window(policy=AbsencePolicy.PROCEED)
    one.want()
    one.feed("north")
    one.feed("south")
    logits_TC = np.zeros((5, 3), np.float32)
    for epoch in (1, 2):
        one.clock.set(0.0)
        asked = threading.Thread(target=one.intake.scores, args=(TEST, epoch, logits_TC), daemon=True)
        asked.start()
        message = awaited(one.intake, "north")
        assert message is not None
        if epoch == 1:
            late = message.logits
            one.intake.leave("north")
            one.intake.leave("south")
            asked.join(timeout=30)
    one.intake.take_score("north", score(late))
    with pytest.raises(MpleError, match="already scored"):
        one.intake.take_score("north", score(late))
