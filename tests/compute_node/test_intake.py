"""The intake: batches and scores in, samples out, and a clock of the test's own that decides when a site is silent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mple.metrics import Tally
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2
from mple.wire.codecs import codec_named
from tests.support.open_intake import OpenIntake, answer, awaited
from tests.support.small_plan import TEST, TRAIN, VAL, key_ref
from tests.support.tallies import score_of, tallies_of


def refused(code: ErrorCode, call: Callable[[], object], text: str | None = None) -> None:
    with pytest.raises(MpleError, match=text) as fault:
        call()
    assert fault.value.code is code


def test_sites_are_asked_in_the_order_of_the_epoch_and_test_samples_last(window: Callable[..., OpenIntake]) -> None:
    one = window()
    order = one.want().epoch_order(0)
    for site, own in (("north", [n for n in order if n < 5]), ("south", [n - 5 for n in order if n >= 5])):
        asked = one.request(site)
        assert (asked.split, list(asked.sample_ids)) == (TRAIN, own)
        assert one.intake.next_message(site) is None  # one request of this size fills the window
        one.intake.take_batch(site, answer(site, asked))
        assert one.request(site).split == TEST


def test_validation_samples_are_asked_between_the_others_and_scored_apart(
    window: Callable[..., OpenIntake],
) -> None:
    one = window(vals={"north": 2, "south": 1})
    one.want()
    asked = []
    for site in ("north", "south"):
        while (message := one.intake.next_message(site)) is not None:
            asked.append((message.samples.split, len(message.samples.sample_ids)))
            one.intake.take_batch(site, answer(site, message.samples))
    assert asked == [(TRAIN, 5), (VAL, 2), (TEST, 3), (TRAIN, 4), (VAL, 1), (TEST, 2)]
    assert one.cache.read(VAL, np.arange(3)).labels_B.tolist() == [0, 0, 0]  # none came
    found: dict[str, dict[str, Tally]] = {}
    rows = np.arange(9, dtype=np.float32).reshape(3, 3)
    scoring = threading.Thread(target=lambda: found.update(one.intake.scores(VAL, 1, rows)), daemon=True)
    scoring.start()
    message = awaited(one.intake, "south")
    assert message is not None
    assert (message.logits.split, list(message.logits.sample_ids)) == (VAL, [0])
    np.testing.assert_array_equal(np.frombuffer(message.logits.values, "<f4"), rows[2])
    wrong = score_of(message.logits.request_id, split=TEST, samples=1)
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_score("south", wrong), "of split 2 and epoch 1")
    one.intake.take_score("south", score_of(message.logits.request_id, split=VAL, samples=1, right=1))
    message = awaited(one.intake, "north")
    assert message is not None
    one.intake.take_score("north", score_of(message.logits.request_id, split=VAL, samples=2, right=1))
    scoring.join(timeout=30)
    assert found == {"north": tallies_of(2, 1), "south": tallies_of(1, 1)}


def test_batches_are_kept_under_their_numbers_and_keys(window: Callable[..., OpenIntake]) -> None:
    one = window()
    one.want()
    assert (one.feed("north"), one.feed("south")) == (8, 6)
    found = one.cache.read(TRAIN, np.array([8, 4, 5]))
    assert found.coded.codes_BV[:, 0].tolist() == [3, 4, 0]
    assert found.labels_B.tolist() == [0, 1, 0]
    assert found.keys_B.tolist() == [1, 0, 1]
    one.intake.wait_for(TRAIN, np.arange(9))
    one.intake.wait_for(TEST, np.arange(5))


def test_after_a_restart_only_what_is_missing_is_asked(window: Callable[..., OpenIntake]) -> None:
    before = window()
    before.want()
    before.feed("north")
    after = window()
    after.want()
    assert after.intake.next_message("north") is None
    assert after.feed("south") == 6


def test_a_window_of_one_asks_sample_by_sample(window: Callable[..., OpenIntake]) -> None:
    one = window(in_flight_samples=1)
    one.want()
    first = one.request("north")
    assert len(first.sample_ids) == 1
    assert one.intake.next_message("north") is None
    one.intake.take_batch("north", answer("north", first))
    assert len(one.request("north").sample_ids) == 1


def test_what_a_broken_stream_was_asked_is_asked_again(window: Callable[..., OpenIntake]) -> None:
    one = window()
    one.want()
    with one.intake.stream("north"):
        lost = one.request("north")
        refused(ErrorCode.DUPLICATE_STREAM, lambda: one.intake.stream("north").__enter__())
    with one.intake.stream("north"):
        again = one.request("north")
        assert list(again.sample_ids) == list(lost.sample_ids)
        assert again.request_id != lost.request_id
        refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_batch("north", answer("north", lost)))
    refused(ErrorCode.UNKNOWN_PARTY, lambda: one.intake.stream("east").__enter__())


FAULTS: dict[str, tuple[ErrorCode, dict[str, Any]]] = {
    "request": (ErrorCode.UNKNOWN_REQUEST, {"request_id": 99}),
    "split": (ErrorCode.MESSAGE_MALFORMED, {"split": TEST}),
    "codec": (ErrorCode.MESSAGE_MALFORMED, {"codec": codec_named("f16")}),
    "other site's key": (ErrorCode.UNKNOWN_KEY_REF, {"key_ref": key_ref("south")}),
    "other key": (ErrorCode.UNKNOWN_KEY_REF, {"key_ref": common_pb2.KeyRef(site="north", epoch=1)}),
    "other key epoch": (
        ErrorCode.UNKNOWN_KEY_REF,
        {"key_ref": common_pb2.KeyRef(site="north", epoch=2, fingerprint=key_ref("north").fingerprint)},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_batch_is_refused_and_its_request_stays_open(window: Callable[..., OpenIntake], fault: str) -> None:
    one = window()
    one.want()
    asked, (code, changed) = one.request("north"), FAULTS[fault]
    refused(code, lambda: one.intake.take_batch("north", answer("north", asked, **changed)))
    assert not one.cache.held(TRAIN).any()
    one.intake.take_batch("north", answer("north", asked))
    assert one.cache.held(TRAIN)[:5].all()
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_batch("north", answer("north", asked)))


def test_a_damaged_batch_is_told_from_a_wrong_one(window: Callable[..., OpenIntake]) -> None:
    one = window()
    one.want()
    message = answer("north", one.request("north"))
    message.crc32c ^= 1
    refused(ErrorCode.CHECKSUM_MISMATCH, lambda: one.intake.take_batch("north", message))


def test_time_before_the_wait_does_not_count(window: Callable[..., OpenIntake]) -> None:
    """A trainer that was busy for an hour has not waited for an hour."""
    one = window()
    one.want()
    one.clock.set(3600.0)
    waiting = threading.Thread(target=one.intake.wait_for, args=(TRAIN, np.arange(9)), daemon=True)
    waiting.start()
    one.clock.wait_until_seen()
    one.feed("north")
    one.feed("south")
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert one.cache.held(TRAIN).all()


def test_a_failure_ends_every_wait(window: Callable[..., OpenIntake]) -> None:
    one = window()
    one.want()
    failure = MpleError(ErrorCode.RUN_FAILED, "enough")
    threading.Timer(0.05, one.intake.fail, (failure,)).start()
    refused(ErrorCode.RUN_FAILED, lambda: one.intake.wait_for(TRAIN, np.arange(9)), "enough")
    refused(ErrorCode.RUN_FAILED, lambda: awaited(one.intake, "north"), "enough")
    refused(ErrorCode.RUN_FAILED, lambda: one.intake.scores(TEST, 1, np.zeros((5, 3), np.float32)), "enough")


def scored(one: OpenIntake, site: str, samples: int, right: int) -> compute_pb2.Score:
    message = awaited(one.intake, site)
    assert message is not None
    assert len(message.logits.sample_ids) == samples
    return score_of(message.logits.request_id, samples=samples, right=right, loss_sum=1.5)


def test_every_site_scores_its_own_logits(window: Callable[..., OpenIntake]) -> None:
    one = window()
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    found: dict[str, dict[str, Tally]] = {}
    scoring = threading.Thread(target=lambda: found.update(one.intake.scores(TEST, 1, rows)), daemon=True)
    scoring.start()
    message = awaited(one.intake, "south")
    assert message is not None
    logits = message.logits
    assert (logits.epoch, list(logits.sample_ids), logits.classes) == (1, [0, 1], 3)
    np.testing.assert_array_equal(np.frombuffer(logits.values, "<f4").reshape(2, 3), rows[3:])
    wrong = score_of(logits.request_id, samples=2, right=3)
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_score("south", wrong), "tally of counts over 2")
    right = score_of(logits.request_id, samples=2, right=1, loss_sum=2.5)
    one.intake.take_score("south", right)
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_score("south", right), "already scored")
    one.intake.take_score("north", scored(one, "north", samples=3, right=3))
    scoring.join(timeout=30)
    assert found == {"north": tallies_of(3, 3, 1.5), "south": tallies_of(2, 1, 2.5)}


def test_logits_of_a_broken_stream_are_sent_again(window: Callable[..., OpenIntake]) -> None:
    one = window()
    found: dict[str, dict[str, Tally]] = {}
    rows = np.zeros((5, 3), np.float32)
    scoring = threading.Thread(target=lambda: found.update(one.intake.scores(TEST, 1, rows)), daemon=True)
    scoring.start()
    with one.intake.stream("north"):
        scored(one, "north", samples=3, right=0)
    for site, samples in (("north", 3), ("south", 2)):
        one.intake.take_score(site, scored(one, site, samples=samples, right=1))
    scoring.join(timeout=30)
    assert found["north"] == tallies_of(3, 1, 1.5)


def test_a_closed_intake_says_done_after_the_last_answer(window: Callable[..., OpenIntake]) -> None:
    one = window()
    one.want()
    one.intake.close()
    one_left = one.request("north")
    one.intake.take_batch("north", answer("north", one_left))
    one.intake.take_batch("north", answer("north", one.request("north")))
    message = one.intake.next_message("north")
    assert message is not None
    assert message.WhichOneof("message") == "done"
    assert one.request("south").sample_ids
