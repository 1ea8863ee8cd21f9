"""The intake: batches and scores in, samples out, and a clock of the test's own that decides when a site is silent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_plan import TEST, TRAIN, key_ref, small_plan

from compute_node.feed_desk import SiteScore
from compute_node.intake import Intake
from compute_node.layer_bank import LayerBank
from compute_node.sample_cache import SampleCache
from mple.plan import GlobalSampler, RunPlan, WireSettings
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2
from mple.wire import Batch, EncodedSamples, batch_to_message, codec_named

VALUES = 64
IDLE_S = 30.0
CODEC = codec_named("q8")


class Clock:
    """Stands still until told; remembers whether it was looked at since."""

    def __init__(self) -> None:
        self._now = 0.0
        self._changed = threading.Condition()
        self._seen = False

    def __call__(self) -> float:
        with self._changed:
            self._seen = True
            self._changed.notify_all()
            return self._now

    def set(self, now: float) -> None:
        with self._changed:
            self._now, self._seen = now, False

    def wait_until_seen(self) -> None:
        """Return once somebody has looked at it since it was set."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._seen, timeout=30)


@dataclass
class Desk:
    """An intake with what belongs to it."""

    intake: Intake
    cache: SampleCache
    plan: RunPlan
    clock: Clock

    def want(self) -> GlobalSampler:
        sizes = [site.train_images for site in self.plan.sites]
        sampler = GlobalSampler(sizes, 4, seed=1)
        self.intake.want_missing(sampler, 0)
        return sampler

    def request(self, site: str) -> compute_pb2.SampleRequest:
        message = self.intake.next_message(site, 0)
        assert message is not None
        assert message.WhichOneof("message") == "samples"
        return message.samples

    def feed(self, site: str) -> int:
        """Answer all that a site is asked and return how many samples that were."""
        count = 0
        while (message := self.intake.next_message(site, 0)) is not None:
            self.intake.take_batch(site, answer(site, message.samples))
            count += len(message.samples.sample_ids)
        return count


def answer(site: str, request: compute_pb2.SampleRequest, **changed: Any) -> common_pb2.MorphedBatch:
    """A batch whose codes are the samples' numbers."""
    numbers = np.array(request.sample_ids)
    codes = np.repeat(numbers[:, None], VALUES, axis=1).astype(np.int8)
    labels = (numbers % 3).astype(np.uint16) if request.split == TRAIN else np.empty(0, np.uint16)
    batch = Batch(EncodedSamples(np.ones(len(numbers), np.float32), codes), labels)
    known: dict[str, Any] = {
        "request_id": request.request_id,
        "key_ref": key_ref(site),
        "split": request.split,
        "codec": CODEC,
    }
    return batch_to_message(batch, **(known | changed))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Opens intakes on one cache file."""
    opened: list[SampleCache] = []

    def start(in_flight_samples: int = 100) -> Desk:
        plan, clock = small_plan(wire=WireSettings(message_bytes=16 * 1024)), Clock()
        cache = SampleCache(tmp_path / "cache.bin", codec=CODEC, values=VALUES, train=9, test=5)
        opened.append(cache)
        bank = LayerBank(plan)
        intake = Intake(
            plan, CODEC, cache, bank, in_flight_samples=in_flight_samples, idle_timeout_s=IDLE_S, clock=clock
        )
        return Desk(intake, cache, plan, clock)

    yield start
    for cache in opened:
        cache.close()


def refused(code: ErrorCode, call: Callable[[], object], text: str | None = None) -> None:
    with pytest.raises(MpleError, match=text) as fault:
        call()
    assert fault.value.code is code


def test_sites_are_asked_in_the_order_of_the_epoch_and_test_samples_last(desk: Callable[..., Desk]) -> None:
    one = desk()
    order = one.want().epoch_order(0)
    for site, own in (("north", [n for n in order if n < 5]), ("south", [n - 5 for n in order if n >= 5])):
        asked = one.request(site)
        assert (asked.split, list(asked.sample_ids)) == (TRAIN, own)
        assert one.intake.next_message(site, 0) is None  # one request of this size fills the window
        one.intake.take_batch(site, answer(site, asked))
        assert one.request(site).split == TEST


def test_batches_are_kept_under_their_numbers_and_keys(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.want()
    assert (one.feed("north"), one.feed("south")) == (8, 6)
    found = one.cache.read(TRAIN, np.array([8, 4, 5]))
    assert found.coded.codes_BV[:, 0].tolist() == [3, 4, 0]
    assert found.labels_B.tolist() == [0, 1, 0]
    assert found.keys_B.tolist() == [1, 0, 1]
    one.intake.wait_for(TRAIN, np.arange(9))
    one.intake.wait_for(TEST, np.arange(5))


def test_after_a_restart_only_what_is_missing_is_asked(desk: Callable[..., Desk]) -> None:
    before = desk()
    before.want()
    before.feed("north")
    after = desk()
    after.want()
    assert after.intake.next_message("north", 0) is None
    assert after.feed("south") == 6


def test_a_window_of_one_asks_sample_by_sample(desk: Callable[..., Desk]) -> None:
    one = desk(in_flight_samples=1)
    one.want()
    first = one.request("north")
    assert len(first.sample_ids) == 1
    assert one.intake.next_message("north", 0) is None
    one.intake.take_batch("north", answer("north", first))
    assert len(one.request("north").sample_ids) == 1


def test_what_a_broken_stream_was_asked_is_asked_again(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.want()
    with one.intake.stream("north"):
        lost = one.request("north")
        refused(ErrorCode.DUPLICATE_STREAM, lambda: one.intake.stream("north").__enter__())
        assert one.intake.streams_open() == 1
    assert one.intake.streams_open() == 0
    with one.intake.stream("north"):
        again = one.request("north")
        assert list(again.sample_ids) == list(lost.sample_ids)
        assert again.request_id != lost.request_id
        refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_batch("north", answer("north", lost)))
    refused(ErrorCode.UNKNOWN_SITE, lambda: one.intake.stream("east").__enter__())


FAULTS: dict[str, tuple[ErrorCode, dict[str, Any]]] = {
    "request": (ErrorCode.UNKNOWN_REQUEST, {"request_id": 99}),
    "split": (ErrorCode.BATCH_MALFORMED, {"split": TEST}),
    "codec": (ErrorCode.BATCH_MALFORMED, {"codec": codec_named("f16")}),
    "other site's key": (ErrorCode.UNKNOWN_KEY_REF, {"key_ref": key_ref("south")}),
    "other key": (ErrorCode.UNKNOWN_KEY_REF, {"key_ref": common_pb2.KeyRef(site="north", epoch=1)}),
    "other key epoch": (
        ErrorCode.UNKNOWN_KEY_REF,
        {"key_ref": common_pb2.KeyRef(site="north", epoch=2, fingerprint=key_ref("north").fingerprint)},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_batch_is_refused_and_its_request_stays_open(desk: Callable[..., Desk], fault: str) -> None:
    one = desk()
    one.want()
    asked, (code, changed) = one.request("north"), FAULTS[fault]
    refused(code, lambda: one.intake.take_batch("north", answer("north", asked, **changed)))
    assert not one.cache.held(TRAIN).any()
    one.intake.take_batch("north", answer("north", asked))
    assert one.cache.held(TRAIN)[:5].all()
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_batch("north", answer("north", asked)))


def test_a_damaged_batch_is_told_from_a_wrong_one(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.want()
    message = answer("north", one.request("north"))
    message.crc32c ^= 1
    refused(ErrorCode.CHECKSUM_MISMATCH, lambda: one.intake.take_batch("north", message))


def test_waiting_ends_when_nothing_has_come_for_too_long(desk: Callable[..., Desk]) -> None:
    """Progress at 20 s puts the end off from 30 s to 50 s; what is named is who owes something."""
    one = desk()
    one.want()
    asked = one.request("north")
    faults: list[MpleError] = []

    def wait() -> None:
        try:
            one.intake.wait_for(TRAIN, np.arange(9))
        except MpleError as fault:
            faults.append(fault)

    def at(now: float) -> None:
        one.clock.set(now)
        with one.cache.changed:
            one.cache.changed.notify_all()

    one.clock.set(0.0)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    one.clock.wait_until_seen()
    at(20.0)
    one.intake.take_batch("north", answer("north", asked))
    one.intake.take_batch("north", answer("north", one.request("north")))
    at(49.0)
    one.clock.wait_until_seen()
    with one.cache.changed:  # whoever has looked at 49 s now waits again, or has given up
        assert not faults
    at(50.0)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert [fault.code for fault in faults] == [ErrorCode.STALLED]
    assert "no samples came in for 30 s; due from south" in str(faults[0])


def test_time_before_the_wait_does_not_count(desk: Callable[..., Desk]) -> None:
    """A trainer that was busy for an hour has not waited for an hour."""
    one = desk()
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


def test_a_failure_ends_every_wait(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.want()
    failure = MpleError(ErrorCode.RUN_FAILED, "enough")
    threading.Timer(0.05, one.intake.fail, (failure,)).start()
    refused(ErrorCode.RUN_FAILED, lambda: one.intake.wait_for(TRAIN, np.arange(9)), "enough")
    refused(ErrorCode.RUN_FAILED, lambda: one.intake.next_message("north", 30), "enough")
    refused(ErrorCode.RUN_FAILED, lambda: one.intake.scores(1, np.zeros((5, 3), np.float32)), "enough")


def scored(one: Desk, site: str, samples: int, correct: int) -> compute_pb2.Score:
    message = one.intake.next_message(site, 30)
    assert message is not None
    assert len(message.logits.sample_ids) == samples
    return compute_pb2.Score(
        request_id=message.logits.request_id, epoch=1, samples=samples, correct=correct, loss_sum=1.5
    )


def test_every_site_scores_its_own_logits(desk: Callable[..., Desk]) -> None:
    one = desk()
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    found: dict[str, SiteScore] = {}
    scoring = threading.Thread(target=lambda: found.update(one.intake.scores(1, rows)), daemon=True)
    scoring.start()
    message = one.intake.next_message("south", 30)
    assert message is not None
    logits = message.logits
    assert (logits.epoch, list(logits.sample_ids), logits.classes) == (1, [0, 1], 3)
    np.testing.assert_array_equal(np.frombuffer(logits.values, "<f4").reshape(2, 3), rows[3:])
    wrong = compute_pb2.Score(request_id=logits.request_id, epoch=1, samples=2, correct=3, loss_sum=1.0)
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_score("south", wrong), "3 right of 2")
    right = compute_pb2.Score(request_id=logits.request_id, epoch=1, samples=2, correct=1, loss_sum=2.5)
    one.intake.take_score("south", right)
    refused(ErrorCode.UNKNOWN_REQUEST, lambda: one.intake.take_score("south", right), "already scored")
    one.intake.take_score("north", scored(one, "north", samples=3, correct=3))
    scoring.join(timeout=30)
    assert found == {"north": SiteScore(3, 3, 1.5), "south": SiteScore(2, 1, 2.5)}


def test_logits_of_a_broken_stream_are_sent_again(desk: Callable[..., Desk]) -> None:
    one = desk()
    found: dict[str, SiteScore] = {}
    rows = np.zeros((5, 3), np.float32)
    scoring = threading.Thread(target=lambda: found.update(one.intake.scores(1, rows)), daemon=True)
    scoring.start()
    with one.intake.stream("north"):
        scored(one, "north", samples=3, correct=0)
    for site, samples in (("north", 3), ("south", 2)):
        one.intake.take_score(site, scored(one, site, samples=samples, correct=1))
    scoring.join(timeout=30)
    assert found["north"].samples == 3


def test_a_closed_intake_says_done_after_the_last_answer(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.want()
    one.intake.close()
    one_left = one.request("north")
    one.intake.take_batch("north", answer("north", one_left))
    one.intake.take_batch("north", answer("north", one.request("north")))
    message = one.intake.next_message("north", 0)
    assert message is not None
    assert message.WhichOneof("message") == "done"
    assert one.request("south").sample_ids
