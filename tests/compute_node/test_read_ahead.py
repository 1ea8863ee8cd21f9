"""Samples are read and decoded one step ahead of the trainer, in the order that it wants them in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from compute_node.training.read_ahead import ReadAhead, Wanted
from mple.model.device import CPU
from mple.rpc import ErrorCode, MpleError
from tests.support.open_intake import BLOCKS, CODEC, OpenIntake
from tests.support.small_plan import TEST, TRAIN

STEPS = [Wanted(TRAIN, np.array(numbers)) for numbers in ([7, 0, 3], [1, 8, 2], [5])]


@pytest.fixture
def one(window: Callable[..., OpenIntake]) -> OpenIntake:
    return window()


@pytest.fixture
def ahead(one: OpenIntake) -> Iterator[ReadAhead]:
    with ReadAhead(one.intake, one.cache, one.bank, CPU) as ahead:
        yield ahead
        one.intake.fail(MpleError(ErrorCode.GOING_DOWN))


def test_what_comes_is_decoded_in_the_order_that_was_asked_for(one: OpenIntake, ahead: ReadAhead) -> None:
    one.want()
    one.feed("north")
    one.feed("south")
    wanted = [*STEPS, Wanted(TEST, np.arange(5))]
    for item, coming in zip(wanted, ahead.in_turn(wanted), strict=True):
        ready = coming.result(timeout=30)
        assert ready.wanted is item
        assert ready.numbers.tolist() == item.numbers.tolist()
        cached = one.cache.read(item.split, item.numbers)
        assert np.array_equal(ready.t_BKQ.numpy(), CODEC.decode(cached.coded, BLOCKS))
        assert ready.labels_B.tolist() == cached.labels_B.tolist()
        assert ready.keys_B.tolist() == cached.keys_B.tolist()
    assert ahead.busy_seconds > 0


def test_one_step_is_read_ahead_and_no_more(one: OpenIntake, ahead: ReadAhead) -> None:
    """The plan's order is taken step by step: nothing runs away from the trainer."""
    one.want()
    one.feed("north")
    one.feed("south")
    taken: list[int] = []

    def items() -> Iterator[Wanted]:
        for number, item in enumerate(STEPS):
            taken.append(number)
            yield item

    coming = ahead.in_turn(items())
    next(coming).result(timeout=30)
    assert taken == [0, 1]
    next(coming).result(timeout=30)
    assert taken == [0, 1, 2]


def test_the_reader_waits_for_sites_and_hears_of_the_end(one: OpenIntake, ahead: ReadAhead) -> None:
    one.want()
    coming = next(ahead.in_turn([STEPS[0]]))
    assert not coming.done()
    one.intake.fail(MpleError(ErrorCode.GOING_DOWN))
    with pytest.raises(MpleError) as fault:
        coming.result(timeout=30)
    assert fault.value.code is ErrorCode.GOING_DOWN


def test_the_reader_has_one_thread_and_later_ones_have_what_the_trainer_has(ahead: ReadAhead) -> None:
    """A thread's number of helpers decides how torch orders sums: the trainer's must not change."""
    before, later = torch.get_num_threads(), []
    helpers = ahead._pool.submit(torch.get_num_threads).result(timeout=30)
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert helpers == 1
    assert (torch.get_num_threads(), later) == (before, [before])
