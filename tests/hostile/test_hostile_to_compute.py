"""What a site may do to the compute node, and what comes of it: its stream ends with a precise word, the others' go on.

Legend: each act is one stream by site north; site south feeds before, meanwhile and after.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping

import google_crc32c
import grpc
import numpy as np
import pytest

from mple.rpc import ErrorCode
from mple.rpc.settings import RECEIVE_LIMIT_BYTES
from mple.v1 import common_pb2, compute_pb2
from tests.fuzz.campaign import rss_mib
from tests.fuzz.compute_target import CODEC, FEED, PREDICT, SIZES, ComputeTarget
from tests.support.open_coordinator import refused_call
from tests.support.raw_calls import Refusals, assert_refused, call, never, within
from tests.support.small_plan import TEST, TRAIN, key_ref
from tests.support.tallies import sent

pb = compute_pb2
Node = Callable[..., ComputeTarget]
E = ErrorCode
NAN, INF, HUGE = math.nan, math.inf, 2**64 - 1
DEADLINE_S = 30.0
Lie = Callable[[ComputeTarget, pb.FeedResponse], pb.FeedRequest | bytes]


def hello(node: ComputeTarget, plan_sha256: bytes | None = None) -> bytes:
    sha256 = node.plan.sha256() if plan_sha256 is None else plan_sha256
    return pb.FeedRequest(hello=pb.FeedHello(plan_sha256=sha256)).SerializeToString()


def bytes_of(message: pb.FeedRequest | bytes | None) -> bytes:
    assert message is not None
    return message if isinstance(message, bytes) else message.SerializeToString()


def feeds(node: ComputeTarget, site: str = "south", answers: int = 3) -> bool:
    """Whether a site that answers honestly is asked so often."""

    def reply(data: bytes) -> list[bytes]:
        answer = node.honest(site, pb.FeedResponse.FromString(data))
        return [] if answer is None else [bytes_of(answer)]

    channel = node.channels[f"site/{site}"]
    return within(lambda: call(channel, FEED, hello(node), reply=reply, most_answers=answers).answers > 0)


def batch(**changes: object) -> Lie:
    """An honest batch, single fields changed, its checksum right."""

    def lie(node: ComputeTarget, asked: pb.FeedResponse) -> pb.FeedRequest:
        answer = node.honest("north", asked)
        assert answer is not None
        changed = answer.batch
        for name, value in changes.items():
            found = value(getattr(changed, name)) if callable(value) else value
            if name == "key_ref":
                changed.key_ref.CopyFrom(found)
            else:
                setattr(changed, name, found)
        if "crc32c" not in changes:
            changed.crc32c = google_crc32c.value(changed.codes + changed.labels)
        return answer

    return lie


def key(**changes: object) -> common_pb2.KeyRef:
    known = key_ref("north")
    for name, value in changes.items():
        setattr(known, name, value)
    return known


BATCHES: dict[str, tuple[Lie, ErrorCode]] = {
    "four billion samples": (batch(samples=2**32 - 1), E.MESSAGE_MALFORMED),
    "no samples": (batch(samples=0), E.MESSAGE_MALFORMED),
    "four billion values a sample": (batch(values_per_sample=2**32 - 1), E.MESSAGE_MALFORMED),
    "3 MB of codes": (batch(codes=bytes(3_000_000)), E.MESSAGE_MALFORMED),
    "no codes": (batch(codes=b""), E.MESSAGE_MALFORMED),
    "3 MB of rubbish": (batch(codes=random.Random(1).randbytes(3_000_000)), E.MESSAGE_MALFORMED),
    "no whole words": (batch(codes=lambda old: old + b"\0"), E.MESSAGE_MALFORMED),
    "a word less": (batch(codes=lambda old: old[:-4]), E.MESSAGE_MALFORMED),
    "a word more": (batch(codes=lambda old: old + bytes(4)), E.MESSAGE_MALFORMED),
    "the largest words": (batch(codes=lambda old: b"\xff" * len(old)), E.MESSAGE_MALFORMED),
    "nothing but zeros": (batch(codes=lambda old: bytes(len(old))), E.MESSAGE_MALFORMED),
    "3 MB of labels": (batch(labels=bytes(3_000_000)), E.MESSAGE_MALFORMED),
    "a label that is none of the plan's": (batch(labels=lambda old: b"\x03\x00" + old[2:]), E.MESSAGE_MALFORMED),
    "the largest label": (batch(labels=lambda old: b"\xff\xff" + old[2:]), E.MESSAGE_MALFORMED),
    "another codec": (batch(codec=common_pb2.CODEC_F32), E.MESSAGE_MALFORMED),
    "an unknown codec": (batch(codec=99), E.MESSAGE_MALFORMED),
    "another split": (batch(split=TEST), E.MESSAGE_MALFORMED),
    "an unknown split": (batch(split=99), E.MESSAGE_MALFORMED),
    "a flipped bit": (batch(crc32c=lambda old: old ^ 1), E.CHECKSUM_MISMATCH),
    "a request of the future": (batch(request_id=10_000), E.UNKNOWN_REQUEST),
    "the largest request number": (batch(request_id=HUGE), E.UNKNOWN_REQUEST),
    "another site's key": (batch(key_ref=key_ref("south")), E.UNKNOWN_KEY_REF),
    "a key epoch that nobody announced": (batch(key_ref=key(epoch=2)), E.UNKNOWN_KEY_REF),
    "a key of other bytes": (batch(key_ref=key(fingerprint=bytes(32))), E.UNKNOWN_KEY_REF),
    "a key of a site with a name of 3 MB": (batch(key_ref=key(site="n" * 3_000_000)), E.UNKNOWN_KEY_REF),
    "a fingerprint of 3 MB": (batch(key_ref=key(fingerprint=bytes(3_000_000))), E.UNKNOWN_KEY_REF),
    "a second hello": (lambda node, _: hello(node), E.MESSAGE_MALFORMED),
    "an empty message": (lambda _node, _: b"", E.MESSAGE_MALFORMED),
    "rubbish": (lambda _node, _: b"\xff" * 1000, E.MESSAGE_MALFORMED),
    "a score for a request of samples": (
        lambda _node, asked: pb.FeedRequest(score=pb.Score(request_id=asked.samples.request_id, epoch=1)),
        E.UNKNOWN_REQUEST,
    ),
}


@pytest.mark.parametrize("act", BATCHES)
def test_a_batch_that_lies_ends_the_stream_and_nothing_else(node: Node, audited: Refusals, act: str) -> None:
    here = node()
    lie, code = BATCHES[act]
    kept = here.cache.held(TRAIN).copy()
    asked: list[int] = []

    def reply(data: bytes) -> list[bytes]:
        message = pb.FeedResponse.FromString(data)
        if not message.HasField("samples"):
            return [bytes_of(here.honest("north", message))]
        asked.append(message.samples.request_id)
        return [bytes_of(lie(here, message))] if len(asked) == 1 else []

    outcome = call(here.channels["site/north"], FEED, hello(here), reply=reply)
    assert_refused(outcome, code, "site/north", audited)
    assert (here.cache.held(TRAIN) == kept).all(), "nothing of it is kept"
    assert feeds(here, "south")
    assert within(lambda: feeds(here, "north") and bool(here.cache.held(TRAIN).any())), "what was asked is asked again"


def score(changes: Mapping[str, int | common_pb2.Tally]) -> Lie:
    """An honest score, single fields or tallies changed."""

    def lie(node: ComputeTarget, asked: pb.FeedResponse) -> pb.FeedRequest:
        answer = node.honest("north", asked)
        assert answer is not None
        for name, value in changes.items():
            if isinstance(value, common_pb2.Tally):
                answer.score.tallies[name].CopyFrom(value)
            else:
                setattr(answer.score, name, value)
        return answer

    return lie


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"epoch": 2},
        {"epoch": 2**32 - 1},
        {"request_id": HUGE},
        {"samples": 2**32 - 1},
        {"samples": 0},
        {"counts": sent([3, 1000])},
        {"counts": sent([3] * 100_000)},
        {"counts": sent([3, 1], [1.0])},
        {"sensitivity": sent([3, 1])},
        {"n" * 1_000_000: common_pb2.Tally()},
        *({"loss": sent([3], [odd])} for odd in (NAN, INF, -1.0, 1e308)),
        {"loss": sent([2], [1.0])},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_score_that_cannot_be_is_refused_and_asked_again(
    node: Node, audited: Refusals, changes: dict[str, int | common_pb2.Tally]
) -> None:
    here = node()
    lied: list[int] = []

    def reply(data: bytes) -> list[bytes]:
        message = pb.FeedResponse.FromString(data)
        if message.HasField("logits"):
            lied.append(message.logits.request_id)
            return [bytes_of(score(changes)(here, message))]
        return []

    outcome = call(here.channels["site/north"], FEED, hello(here), reply=reply)
    assert_refused(outcome, E.UNKNOWN_REQUEST, "site/north", audited)
    again: list[int] = []

    def honest(data: bytes) -> list[bytes]:
        message = pb.FeedResponse.FromString(data)
        if message.HasField("logits"):
            again.append(message.logits.request_id)
        return [bytes_of(here.honest("north", message))] if len(again) < 2 else []

    channel = here.channels["site/north"]
    assert within(lambda: bool(call(channel, FEED, hello(here), reply=honest, most_answers=12).answers and again))
    assert again[0] == lied[0], "the group is still to be scored"
    assert feeds(here, "south")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (lambda _node: b"", E.MESSAGE_MALFORMED),
        (lambda node: bytes_of(pb.FeedRequest(batch=node.batch("north", [0], TRAIN, 1))), E.MESSAGE_MALFORMED),
        (lambda node: hello(node, bytes(32)), E.PLAN_HASH_MISMATCH),
        (lambda node: hello(node, b""), E.PLAN_HASH_MISMATCH),
        (lambda node: hello(node, bytes(3_000_000)), E.PLAN_HASH_MISMATCH),
        (lambda _node: b"\x0b" * 100_000, E.MESSAGE_MALFORMED),
    ],
    ids=["empty", "a batch", "another plan", "no plan", "a plan hash of 3 MB", "rubbish"],
)
def test_a_stream_opens_with_a_hello_of_the_plan(
    node: Node, audited: Refusals, first: Callable[[ComputeTarget], bytes], code: ErrorCode
) -> None:
    here = node()
    assert_refused(call(here.channels["site/north"], FEED, first(here)), code, "site/north", audited)
    assert feeds(here, "south")
    assert feeds(here, "north")


def test_a_batch_that_comes_twice_is_refused_and_stays_kept_once(node: Node, audited: Refusals) -> None:
    here = node()
    ids: list[int] = []

    def reply(data: bytes) -> list[bytes]:
        message = pb.FeedResponse.FromString(data)
        if not message.HasField("samples") or ids:
            return []
        ids.extend(message.samples.sample_ids)
        return [bytes_of(here.honest("north", message))] * 2

    outcome = call(here.channels["site/north"], FEED, hello(here), reply=reply)
    assert_refused(outcome, E.UNKNOWN_REQUEST, "site/north", audited)
    assert here.cache.holds(TRAIN, np.array(ids)), "the first of the two was right"
    assert int(here.cache.held(TRAIN).sum()) == len(ids)
    assert feeds(here, "south")


def test_a_message_after_the_end_is_refused(node: Node, audited: Refusals) -> None:
    here = node(trains=False)
    kept = None

    def reply(data: bytes) -> list[bytes]:
        nonlocal kept
        message = pb.FeedResponse.FromString(data)
        if message.HasField("done"):
            kept = here.cache.held(TRAIN).copy()
            return [bytes_of(pb.FeedRequest(batch=here.batch("north", [0], TRAIN, 1)))]
        return [bytes_of(here.honest("north", message))]

    outcome = call(here.channels["site/north"], FEED, hello(here), reply=reply)
    assert_refused(outcome, E.UNKNOWN_REQUEST, "site/north", audited)
    assert kept is not None
    assert kept[: SIZES["north"][0]].all()
    assert feeds(here, "south")


def test_a_second_stream_with_the_same_certificate_is_refused(node: Node, audited: Refusals) -> None:
    here = node()
    over, channel = threading.Event(), here.channels["site/north"]
    first = channel.stream_stream(FEED)(never(over, [hello(here)]), timeout=DEADLINE_S)
    asked = pb.FeedResponse.FromString(next(first))
    second = call(channel, FEED, hello(here), reply=lambda _data: [])
    assert_refused(second, E.DUPLICATE_STREAM, "site/north", audited)
    assert asked.WhichOneof("message") in ("samples", "logits"), "the first goes on"
    assert first.is_active()
    assert feeds(here, "south")
    over.set()
    first.cancel()


@pytest.mark.parametrize(
    ("caller", "code"),
    [("site/stranger", E.UNKNOWN_PARTY), ("coordinator/coordinator", E.ROLE_NOT_ALLOWED)],
)
def test_who_is_not_a_site_of_the_plan_feeds_nothing(
    node: Node, audited: Refusals, caller: str, code: ErrorCode
) -> None:
    here = node()
    assert_refused(call(here.channels[caller], FEED, hello(here)), code, caller, audited)
    assert feeds(here, "south")


@pytest.mark.parametrize("method", [FEED, PREDICT])
def test_streams_without_a_word_are_ended_and_one_site_cannot_take_them_all(
    node: Node, audited: Refusals, method: str
) -> None:
    here = node(idle_s=8.0)
    over, channel = threading.Event(), here.channels["site/north"]
    silent = [channel.stream_stream(method)(never(over), timeout=DEADLINE_S) for _ in range(8)]
    assert ([i.initial_metadata() for i in silent] and call(channel, method, hello(here)).code) == E.TOO_MANY_CALLS
    assert feeds(here, "south")
    for one in silent:
        with refused_call(E.STREAM_TRUNCATED, "no message came for 8 s"):
            next(one)
    over.set()
    assert {("site/north", E.TOO_MANY_CALLS), ("site/north", E.STREAM_TRUNCATED)} <= set(audited())


def test_a_site_that_does_not_read_is_asked_no_more_than_its_window(node: Node) -> None:
    here = node()
    before_mib = rss_mib()
    over = threading.Event()
    deaf = here.channels["site/north"].stream_stream(FEED)(never(over, [hello(here)]))
    assert feeds(here, "south", answers=20)
    assert rss_mib() - before_mib < 50
    over.set()
    deaf.cancel()
    assert within(lambda: feeds(here, "north"))


def test_a_flood_of_scores_ends_at_the_first_that_nobody_asked_for(node: Node, audited: Refusals) -> None:
    here = node()
    flood = [bytes_of(pb.FeedRequest(score=pb.Score(request_id=number + 500))) for number in range(20_000)]
    before_mib = rss_mib()
    outcome = call(here.channels["site/north"], FEED, hello(here), *flood)
    assert_refused(outcome, E.UNKNOWN_REQUEST, "site/north", audited)
    assert rss_mib() - before_mib < 50
    assert feeds(here, "south")
    assert feeds(here, "north")


@pytest.mark.parametrize("compressed", [False, True], ids=["as it is", "compressed"])
def test_a_message_beyond_the_limit_ends_the_stream(node: Node, compressed: bool) -> None:
    here = node()
    how = grpc.Compression.Gzip if compressed else None
    size = 64 * 1024 * 1024 if compressed else RECEIVE_LIMIT_BYTES + 1
    stream = here.channels["site/north"].stream_stream(FEED)(
        iter([hello(here), bytes(size)]), timeout=DEADLINE_S, compression=how
    )
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert feeds(here, "south")
    assert within(lambda: feeds(here, "north"))


def question(here: ComputeTarget, **changes: object) -> bytes:
    message = pb.PredictRequest(plan_sha256=here.plan.sha256(), batch=here.batch("north", [0, 1], TEST, 7))
    for name, value in changes.items():
        if name == "key_ref":
            message.batch.key_ref.CopyFrom(value)  # type: ignore[arg-type]
        elif name == "plan_sha256":
            message.plan_sha256 = value  # type: ignore[assignment]
        else:
            setattr(message.batch, name, value(getattr(message.batch, name)) if callable(value) else value)
    changed = message.batch
    changed.crc32c = google_crc32c.value(changed.codes + changed.labels)
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"samples": 2**32 - 1}, E.MESSAGE_MALFORMED),
        ({"samples": 0}, E.MESSAGE_MALFORMED),
        ({"values_per_sample": 2**32 - 1}, E.MESSAGE_MALFORMED),
        ({"codes": b""}, E.MESSAGE_MALFORMED),
        ({"codes": lambda old: b"\xff" * len(old)}, E.MESSAGE_MALFORMED),
        ({"codes": lambda old: old + bytes(4)}, E.MESSAGE_MALFORMED),
        ({"labels": b"\x00\x00\x00\x00"}, E.MESSAGE_MALFORMED),
        ({"codec": 99}, E.MESSAGE_MALFORMED),
        ({"key_ref": key_ref("south")}, E.UNKNOWN_KEY_REF),
        ({"plan_sha256": bytes(32)}, E.PLAN_HASH_MISMATCH),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else str(value),
)
def test_a_question_that_lies_is_refused(
    node: Node, audited: Refusals, changes: dict[str, object], code: ErrorCode
) -> None:
    here = node()
    channel = here.channels["site/north"]
    assert_refused(call(channel, PREDICT, question(here, **changes)), code, "site/north", audited)
    assert call(channel, PREDICT, question(here)).status == "OK"


def test_a_short_question_cannot_stand_for_more_samples_than_a_message_holds(node: Node, audited: Refusals) -> None:
    """Packed zeros need next to no bytes, but memory for all the values that they stand for."""
    here = node()
    channel, geometry = here.channels["site/north"], here.plan.geometry
    sample_bytes = CODEC.sample_bytes(blocks=geometry.blocks, values=geometry.morphed_elements)
    most = here.plan.wire.message_bytes // sample_bytes
    assert 1 < most < 1024

    def zeros(samples: int) -> bytes:
        batch = here.batch("north", [0] * samples, TEST, 7)
        assert 40 * len(batch.codes) < samples * sample_bytes
        return pb.PredictRequest(plan_sha256=here.plan.sha256(), batch=batch).SerializeToString()

    for samples in (most + 1, 1024):
        assert_refused(call(channel, PREDICT, zeros(samples)), E.MESSAGE_MALFORMED, "site/north", audited)
    assert call(channel, PREDICT, zeros(most)).status == "OK"
