"""The window that asks one site: rules by example, then against a model under random streams, breaks and answers."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from compute_node.feeding.request_window import Asked, Done, FeedFault, RequestWindow, ToScore
from mple.metrics import Outputs, Tally
from mple.v1 import common_pb2
from tests.support.tallies import WITHHELD, tallies_of

TRAIN, TEST = common_pb2.SPLIT_TRAIN, common_pb2.SPLIT_TEST


def window_of(per_request: int = 2, most: int = 4) -> RequestWindow:
    return RequestWindow(per_request=per_request, most_in_flight=most, outputs=Outputs(3))


def asked_by(window: RequestWindow) -> Asked:
    message = window.next_message()
    assert isinstance(message, Asked)
    return message


def to_score_by(window: RequestWindow) -> ToScore:
    message = window.next_message()
    assert isinstance(message, ToScore)
    return message


def test_asks_in_order_until_the_window_is_full() -> None:
    window = window_of()
    window.want(TRAIN, [5, 3, 9, 1, 7])
    first, second = asked_by(window), asked_by(window)
    assert (first.samples, second.samples) == ((5, 3), (9, 1))
    assert window.next_message() is None
    window.answered(second.request_id)
    assert asked_by(window).samples == (7,)


def test_splits_are_not_mixed_in_a_request() -> None:
    window = window_of(per_request=4, most=8)
    window.want(TRAIN, [1])
    window.want(TEST, [2, 3])
    first, second = asked_by(window), asked_by(window)
    assert [(first.split, first.samples), (second.split, second.samples)] == [(TRAIN, (1,)), (TEST, (2, 3))]


def test_after_a_break_the_unanswered_come_first_and_in_order() -> None:
    window = window_of()
    window.want(TRAIN, range(6))
    first, second = asked_by(window), asked_by(window)
    window.answered(first.request_id)
    window.stream_broke()
    again = asked_by(window)
    assert again.samples == second.samples == (2, 3)
    assert again.request_id > second.request_id
    assert asked_by(window).samples == (4, 5)


def test_a_late_answer_from_a_broken_stream_is_refused() -> None:
    window = window_of()
    window.want(TRAIN, [1])
    late = asked_by(window)
    window.stream_broke()
    with pytest.raises(FeedFault, match="never made or is already answered"):
        window.answered(late.request_id)
    assert asked_by(window).samples == (1,)


def test_logits_go_out_before_requests_and_the_last_answer_has_the_tallies() -> None:
    window = window_of()
    window.want(TRAIN, [1])
    window.score(TEST, 1, [(0, 1, 2), (3,)])
    first, second = to_score_by(window), to_score_by(window)
    assert window.tallies_of(TEST, 1) is None
    assert (first.last, second.last) == (False, True)
    window.scored(second.request_id, split=TEST, epoch=1, samples=1, tallies=tallies_of(4, 2, 3.75), withheld=WITHHELD)
    assert window.tallies_of(TEST, 1) is None
    window.scored(first.request_id, split=TEST, epoch=1, samples=3, tallies={})
    assert window.tallies_of(TEST, 1) == tallies_of(4, 2, 3.75)
    assert window.tallies_of(TEST, 2) is None


def test_a_split_goes_out_anew_as_a_whole_after_a_break() -> None:
    """Tallies cover all of it, so the site has to have all of it from one stream."""
    window = window_of()
    window.score(TEST, 1, [(0,), (1,), (2,)])
    first, second, last = (to_score_by(window) for _ in range(3))
    window.scored(first.request_id, split=TEST, epoch=1, samples=1, tallies={})
    window.scored(last.request_id, split=TEST, epoch=1, samples=1, tallies=tallies_of(3, 1), withheld=WITHHELD)
    window.stream_broke()
    assert [to_score_by(window) for _ in range(3)] == [first, second, last]
    for group in (first, second):
        window.scored(group.request_id, split=TEST, epoch=1, samples=1, tallies={})
    assert window.tallies_of(TEST, 1) is None
    window.scored(last.request_id, split=TEST, epoch=1, samples=1, tallies=tallies_of(3, 2), withheld=WITHHELD)
    window.stream_broke()
    assert window.next_message() is None, "what is scored is not sent again"
    assert window.tallies_of(TEST, 1) == tallies_of(3, 2)


def test_another_scoring_takes_the_place_of_one_that_is_not_done() -> None:
    window = window_of()
    window.score(TEST, 1, [(0,), (1,)])
    late = to_score_by(window)
    window.score(TEST, 2, [(0, 1)])
    window.scored(late.request_id, split=TEST, epoch=1, samples=1, tallies={})
    group = to_score_by(window)
    window.scored(group.request_id, split=TEST, epoch=2, samples=2, tallies=tallies_of(2), withheld=WITHHELD)
    assert window.tallies_of(TEST, 1) is None
    assert window.tallies_of(TEST, 2) == tallies_of(2)


@pytest.mark.parametrize(
    ("tallies", "withheld", "named"),
    [
        ({}, (), "told and withheld are none; due are counts, loss, confusion"),
        (tallies_of(4), (), "told and withheld are counts, loss;"),
        (
            tallies_of(4),
            (*WITHHELD, "loss"),
            "told and withheld are calibration, confusion, counts, loss, loss, scores",
        ),
        (tallies_of(4), (*WITHHELD, "n" * 10**6), "told and withheld are calibration, confusion, counts, loss, nnn"),
        (tallies_of(1), WITHHELD, "tally of counts over 4 samples"),
    ],
)
def test_the_last_answer_tells_or_withholds_each_tally_of_the_plan(
    tallies: dict[str, Tally], withheld: tuple[str, ...], named: str
) -> None:
    window = window_of()
    window.score(TEST, 1, [(0, 1, 2), (3,)])
    first, last = to_score_by(window), to_score_by(window)
    with pytest.raises(FeedFault, match="told and withheld are counts, loss; due are none"):
        window.scored(first.request_id, split=TEST, epoch=1, samples=3, tallies=tallies_of(3))
    with pytest.raises(FeedFault, match=named):
        window.scored(last.request_id, split=TEST, epoch=1, samples=1, tallies=tallies, withheld=withheld)


def test_tallies_that_the_plan_does_not_name_are_not_due() -> None:
    window = RequestWindow(per_request=2, most_in_flight=4, outputs=Outputs(3), tallies=("counts", "loss"))
    window.score(TEST, 1, [(0, 1)])
    group = to_score_by(window)
    window.scored(group.request_id, split=TEST, epoch=1, samples=2, tallies=tallies_of(2))
    assert window.tallies_of(TEST, 1) == tallies_of(2)


def test_a_site_without_test_images_has_scored_at_once() -> None:
    window = window_of()
    window.score(TEST, 1, [])
    assert window.tallies_of(TEST, 1) == {}


@pytest.mark.parametrize(
    ("epoch", "samples", "tallies", "named"),
    [
        (0, 3, tallies_of(3), "3 samples of split 2 and epoch 0"),
        (2, 3, tallies_of(3), "3 samples of split 2 and epoch 2"),
        (1, 2, tallies_of(2), "2 samples of split 2 and epoch 1"),
        (1, 3, tallies_of(2), "tally of counts over 3 samples"),
        (1, 3, tallies_of(3, 4), "tally of counts"),
        (1, 3, tallies_of(3, -1), "tally of counts"),
        (1, 3, tallies_of(3, 1, -0.1), "tally of loss"),
        (1, 3, tallies_of(3, 1, math.nan), "tally of loss"),
        (1, 3, tallies_of(3, 1, math.inf), "tally of loss"),
        (1, 3, tallies_of(3, 1, 1e300), "tally of loss"),
        (1, 3, {**tallies_of(3), "loss": Tally((3,))}, "loss has 1 counts and 0 sums"),
        (1, 3, {**tallies_of(3), "counts": Tally((3, 1, 0))}, "counts has 3 counts"),
        (
            1,
            3,
            {**tallies_of(3), "sharpness": Tally()},
            "told and withheld are calibration, confusion, counts, loss, scores, sharp",
        ),
    ],
)
def test_scores_that_cannot_be_are_refused_and_change_nothing(
    epoch: int, samples: int, tallies: dict[str, Tally], named: str
) -> None:
    window = window_of()
    window.score(TEST, 1, [(0, 1, 2)])
    item = to_score_by(window)
    with pytest.raises(FeedFault, match=named):
        window.scored(item.request_id, split=TEST, epoch=epoch, samples=samples, tallies=tallies, withheld=WITHHELD)
    window.scored(item.request_id, split=TEST, epoch=1, samples=3, tallies=tallies_of(3, 3, 0.5), withheld=WITHHELD)
    with pytest.raises(FeedFault, match="already scored"):
        window.scored(item.request_id, split=TEST, epoch=1, samples=3, tallies=tallies_of(3, 3, 0.5), withheld=WITHHELD)
    assert window.tallies_of(TEST, 1) == tallies_of(3, 3, 0.5)


def test_done_is_said_once_a_stream_and_only_when_nothing_is_due() -> None:
    window = window_of()
    window.want(TRAIN, [1])
    window.close()
    asked = asked_by(window)
    assert window.next_message() is None
    window.answered(asked.request_id)
    assert window.next_message() is Done.DONE
    assert window.next_message() is None
    window.stream_broke()
    assert window.next_message() is Done.DONE


@pytest.mark.parametrize(("per_request", "most"), [(0, 4), (5, 4), (-1, -1)])
def test_impossible_windows_are_refused(per_request: int, most: int) -> None:
    with pytest.raises(ValueError, match="1 <= first <= second"):
        window_of(per_request, most)


class WindowUnderStreams(RuleBasedStateMachine):
    """A site that answers in any order, now and then twice or never, over streams that break at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.window = RequestWindow(per_request=3, most_in_flight=7, outputs=Outputs(3))
        self.wanted = 0
        self.open: dict[int, Asked] = {}
        self.closed: list[int] = []
        self.kept: Counter[tuple[int, int]] = Counter()
        self.asked_since_break: Counter[tuple[int, int]] = Counter()

    @rule(split=st.sampled_from([TRAIN, TEST]), count=st.integers(0, 9))
    def want(self, split: common_pb2.Split, count: int) -> None:
        self.window.want(split, range(self.wanted, self.wanted + count))
        self.wanted += count

    @rule()
    def ask(self) -> None:
        message = self.window.next_message()
        if message is None:
            return
        assert isinstance(message, Asked)
        assert 1 <= len(message.samples) <= 3
        self.open[message.request_id] = message
        for sample in message.samples:
            self.asked_since_break[message.split, sample] += 1
            assert self.asked_since_break[message.split, sample] == 1, "asked twice within one stream"
            assert not self.kept[message.split, sample], "asked again after its answer was kept"

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.open)))
        asked = self.open.pop(request_id)
        assert self.window.asked(request_id) == asked
        self.window.answered(request_id)
        self.kept.update((asked.split, sample) for sample in asked.samples)
        self.closed.append(request_id)

    @rule(request_id=st.integers(0, 10_000))
    def answer_what_was_not_asked(self, request_id: int) -> None:
        if request_id in self.open:
            return
        self._refused(request_id)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        self._refused(data.draw(st.sampled_from(self.closed)))

    @rule()
    def break_stream(self) -> None:
        self.window.stream_broke()
        self.closed.extend(self.open)
        self.open.clear()
        self.asked_since_break.clear()

    @invariant()
    def the_window_is_kept(self) -> None:
        assert sum(len(asked.samples) for asked in self.open.values()) <= 7

    def teardown(self) -> None:
        """Whatever happened: a site that answers from now on brings all, once each, and is then told so."""
        self.window.close()
        for _ in range(2 * self.wanted + 2):
            for request_id in list(self.open):
                asked = self.open.pop(request_id)
                self.window.answered(request_id)
                self.kept.update((asked.split, sample) for sample in asked.samples)
            message = self.window.next_message()
            if message is Done.DONE:
                break
            assert isinstance(message, Asked)
            self.open[message.request_id] = message
        else:
            raise AssertionError("the window never came to its end")
        assert sum(self.kept.values()) == len(self.kept) == self.wanted
        assert self.window.idle

    def _refused(self, request_id: int) -> None:
        with pytest.raises(FeedFault):
            self.window.answered(request_id)


TestWindowUnderStreams = WindowUnderStreams.TestCase
TestWindowUnderStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
