"""What a compute node may ask of a site, and what it gets: nothing beyond the plan, and a site that can still feed.

The site's real feed dials a server that answers with whatever the test says, over mutual TLS.
"""

from __future__ import annotations

import math
import threading

import grpc
import numpy as np
import pytest

from mple.node.stop import Stop
from mple.rpc import ErrorCode
from mple.v1 import compute_pb2, coordinator_pb2
from mple.wire.batch import samples_per_message
from tests.fuzz.campaign import rss_mib
from tests.fuzz.compute_target import CODEC, FEED, SIZES
from tests.fuzz.shots import Shot
from tests.fuzz.site_target import MOST_SCORINGS, WATCH, SiteTarget
from tests.support.small_plan import CLASSES, TEST, TRAIN

pb = compute_pb2
E = ErrorCode
HUGE = 2**32 - 1
TRAINS, TESTS = SIZES["north"]
RELEASES = 255
"""Of the target's plan."""


def ask(ids: list[int], split: int = TRAIN, request_id: int = 1) -> pb.FeedResponse:
    request = pb.SampleRequest(request_id=request_id, sample_ids=ids)
    request.split = split  # type: ignore[assignment]
    return pb.FeedResponse(samples=request)


def logits(ids: list[int], **changes: object) -> pb.FeedResponse:
    values = np.zeros((len(ids), len(CLASSES)), "<f4").tobytes()
    known: dict[str, object] = {
        "request_id": 1,
        "epoch": 1,
        "split": TEST,
        "sample_ids": ids,
        "classes": len(CLASSES),
        "values": values,
    }
    return pb.FeedResponse(logits=pb.Logits(**(known | changes)))  # type: ignore[arg-type]


DONE = pb.FeedResponse(done=pb.FeedDone())


def answered(site: SiteTarget, *answers: pb.FeedResponse | bytes, method: str = FEED) -> str:
    """How the site's stream ends when the compute node says this: a code, gRPC's error, or OK."""
    data = tuple(answer if isinstance(answer, bytes) else answer.SerializeToString() for answer in answers)
    outcome = site.replay(Shot("site", "feeding", "compute/compute", method, data))
    assert not outcome.hung
    return outcome.status


ACTS: dict[str, tuple[list[pb.FeedResponse | bytes], ErrorCode]] = {
    "a million samples": ([ask(list(range(1_000_000)))], E.MESSAGE_MALFORMED),
    "a million times the same sample": ([ask([0] * 1_000_000)], E.MESSAGE_MALFORMED),
    "more samples than a message holds": ([ask(list(range(21)))], E.MESSAGE_MALFORMED),
    "a sample beyond the split": ([ask([TRAINS])], E.SAMPLE_NOT_PLANNED),
    "the largest sample number": ([ask([0, HUGE])], E.SAMPLE_NOT_PLANNED),
    "a training sample of the test split": ([ask([TESTS], TEST)], E.SAMPLE_NOT_PLANNED),
    "a sample twice": ([ask([3, 4, 3])], E.SAMPLE_NOT_PLANNED),
    "no sample": ([ask([])], E.SAMPLE_NOT_PLANNED),
    "no split": ([ask([0], 0)], E.SAMPLE_NOT_PLANNED),
    "an unknown split": ([ask([0], 99)], E.SAMPLE_NOT_PLANNED),
    "a negative split": ([ask([0], -1)], E.SAMPLE_NOT_PLANNED),
    "logits that are no numbers": ([logits([0], values=np.full(3, math.nan, "<f4").tobytes())], E.MESSAGE_MALFORMED),
    "infinite logits": ([logits([0], values=np.full(3, math.inf, "<f4").tobytes())], E.MESSAGE_MALFORMED),
    "logits of too few bytes": ([logits([0, 1], values=bytes(12))], E.MESSAGE_MALFORMED),
    "3 MB of logits": ([logits([0], values=bytes(3_000_000))], E.MESSAGE_MALFORMED),
    "logits of four billion classes": ([logits([0], classes=HUGE)], E.MESSAGE_MALFORMED),
    "logits for a sample that there is not": ([logits([TESTS])], E.MESSAGE_MALFORMED),
    "logits for no sample": ([logits([])], E.MESSAGE_MALFORMED),
    "logits that name a sample twice": ([logits([1, 1])], E.MESSAGE_MALFORMED),
    "logits of epoch 0": ([logits([0], epoch=0)], E.MESSAGE_MALFORMED),
    "logits of an epoch beyond the plan": ([logits([0], epoch=5)], E.MESSAGE_MALFORMED),
    "logits of training samples": ([logits([0], split=TRAIN)], E.MESSAGE_MALFORMED),
    "logits of an unknown split": ([logits([0], split=99)], E.MESSAGE_MALFORMED),
    "an empty message": ([b""], E.MESSAGE_MALFORMED),
    "a request after the end": ([DONE, ask([0])], E.MESSAGE_MALFORMED),
    "two ends": ([DONE, DONE], E.MESSAGE_MALFORMED),
    "an end without a word": ([], E.STREAM_TRUNCATED),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_compute_node_that_breaks_the_plan_is_refused_and_gets_nothing(site: SiteTarget, act: str) -> None:
    answers, code = ACTS[act]
    released = site.released()
    assert answered(site, *answers) == code
    assert (site.released() == released).all(), "a refused request counts for none of its samples"
    assert answered(site, ask([0, 5]), logits([0, 1]), DONE) == "OK"
    assert site.released().sum() == 2


def test_no_sample_leaves_more_often_than_planned(site: SiteTarget) -> None:
    for _ in range(RELEASES // 15):
        assert answered(site, *(ask([7], request_id=number) for number in range(15)), DONE) == "OK"
    assert int(site.released()[7]) == RELEASES
    assert answered(site, ask([7])) == E.RELEASE_LIMIT
    assert answered(site, ask([6, 7, 8])) == E.RELEASE_LIMIT
    assert int(site.released()[7]) == RELEASES
    assert not site.released()[[6, 8]].any()
    assert answered(site, ask([6, 8]), DONE) == "OK"


def test_scores_are_no_oracle_without_end(site: SiteTarget) -> None:
    """Tallies of chosen logits tell labels; they are of the whole split, and the plan bounds how often."""
    whole = list(range(TESTS))
    for _ in range(MOST_SCORINGS // 50):
        assert answered(site, *(logits(whole) for _ in range(50)), DONE) == "OK"
    assert answered(site, logits(whole)) == E.MESSAGE_MALFORMED
    assert answered(site, logits([3]), DONE) == E.MESSAGE_MALFORMED


@pytest.mark.parametrize("rubbish", [b"\xff" * 1000, b"\x0b" * 100_000, b"\x0a\xff\xff\xff\xff\x0f"])
def test_rubbish_is_a_broken_link(site: SiteTarget, rubbish: bytes) -> None:
    assert answered(site, rubbish) == "MultiThreadedRendezvous", "gRPC's own error, which the site tries again after"
    assert answered(site, ask([0]), DONE) == "OK"


def test_a_message_beyond_the_limit_is_refused_by_grpc(site: SiteTarget) -> None:
    before_mib = rss_mib()
    assert answered(site, bytes(8 * 1024 * 1024)) == "MultiThreadedRendezvous"
    assert rss_mib() - before_mib < 60
    assert answered(site, ask([0]), DONE) == "OK"


def test_a_compute_node_that_does_not_read_stops_the_morphing(site: SiteTarget) -> None:
    """It asks for all that the plan allows, 11 MB in batches of 14 KB, and takes none of them."""
    before_mib, over = rss_mib(), threading.Event()
    geometry = site.plan.geometry
    sample_bytes = CODEC.sample_bytes(blocks=geometry.blocks, values=geometry.morphed_elements)
    most = samples_per_message(site.plan.wire.message_bytes, sample_bytes)
    groups = [list(range(low, min(low + most, TRAINS))) for low in range(0, TRAINS, most)]
    site.hold_after(tuple(ask(group).SerializeToString() for group in groups * RELEASES), over)
    stop, ended = Stop(), threading.Event()

    def feed() -> None:
        try:
            site.feed.run(site.stub, stop)
        except grpc.RpcError:
            pass
        finally:
            ended.set()

    threading.Thread(target=feed, daemon=True).start()
    assert not ended.wait(1.0), "its requests are those of an honest node"
    seen = -1
    while seen != int(site.released().sum()):
        seen = int(site.released().sum())
        threading.Event().wait(1.0)
    assert seen < TRAINS * RELEASES, "the site has not answered all of it"
    assert rss_mib() - before_mib < 50
    stop.set()
    assert ended.wait(20)
    over.set()
    assert answered(site, ask([0]), DONE) == "OK"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (
            coordinator_pb2.WatchResponse(plan_made=coordinator_pb2.PlanMade(plan_json=b"{}", plan_sha256=bytes(32))),
            E.PLAN_HASH_MISMATCH,
        ),
        (
            coordinator_pb2.WatchResponse(plan_made=coordinator_pb2.PlanMade(plan_json=b"[" * 100_000)),
            E.PLAN_HASH_MISMATCH,
        ),
        (
            coordinator_pb2.WatchResponse(plan_made=coordinator_pb2.PlanMade(plan_json=b'{"sites": 9e999}')),
            E.PLAN_HASH_MISMATCH,
        ),
        (
            coordinator_pb2.WatchResponse(plan_made=coordinator_pb2.PlanMade(plan_json=b"\xff\xfe")),
            E.PLAN_HASH_MISMATCH,
        ),
    ],
    ids=["another plan", "100,000 brackets", "infinity", "no text"],
)
def test_a_coordinator_that_lies_about_the_plan_is_refused(
    site: SiteTarget, event: coordinator_pb2.WatchResponse, code: ErrorCode
) -> None:
    assert answered(site, event.SerializeToString(), method=WATCH) == code


def test_a_plan_with_another_hash_is_refused(site: SiteTarget) -> None:
    made = coordinator_pb2.PlanMade(plan_json=site.plan.to_json(), plan_sha256=bytes(32))
    event = coordinator_pb2.WatchResponse(plan_made=made)
    assert answered(site, event.SerializeToString(), method=WATCH) == E.PLAN_HASH_MISMATCH
