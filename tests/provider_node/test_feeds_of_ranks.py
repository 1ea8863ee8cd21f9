"""A compute node of several ranks, fed by one site: a stream for each; at the site one morphing and one book."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from mple.disk.damage import DamagedError
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2
from provider_node.feeding.feed import SiteFeed
from provider_node.feeding.whole_run import Feeding
from tests.support.feeding_site import asked, second
from tests.support.small_plan import TEST, TRAIN

RANKS = 3


@pytest.fixture
def feeds(feeding: Feeding) -> tuple[SiteFeed, ...]:
    """Of one site, the second of the plan, whose first training sample has the number 20."""
    plan = feeding.plan
    first = dataclasses.replace(plan.sites[1], train_images=20, test_images=4)
    training = dataclasses.replace(plan.training, ranks=RANKS)
    feeding.plan = dataclasses.replace(plan, sites=(first, plan.sites[0]), training=training)
    with ThreadPoolExecutor(RANKS) as pool:
        return tuple(pool.map(feeding._begin, range(RANKS)))


def refusal(feed: SiteFeed, message: compute_pb2.FeedResponse) -> MpleError:
    with pytest.raises(MpleError) as caught:
        feed._answer(message)
    return caught.value


def test_each_stream_says_whom_it_means(feeds: tuple[SiteFeed, ...]) -> None:
    assert [feed._hello.rank for feed in feeds] == [0, 1, 2]


def test_a_rank_gets_the_plans_samples_and_no_others(feeds: tuple[SiteFeed, ...]) -> None:
    """Number 20 is rank 2's, for 20 % 3 = 2; of the test split number 4 is rank 1's."""
    owners = {0: 2, 1: 0, 2: 1, 3: 2}
    for sample, owner in owners.items():
        for rank in set(range(RANKS)) - {owner}:
            fault = refusal(feeds[rank], asked(sample))
            assert fault.code is ErrorCode.SAMPLE_NOT_PLANNED
            assert f"rank {rank} asked for sample {sample}, which the plan gives to rank {owner}" in str(fault)
        assert feeds[owner]._answer(asked(sample)).batch.samples == 1
    tested = compute_pb2.SampleRequest(request_id=1, split=TEST, sample_ids=[0, 3])
    assert feeds[1]._answer(compute_pb2.FeedResponse(samples=tested)).batch.samples == 2


def test_releases_of_all_ranks_are_in_one_book(feeds: tuple[SiteFeed, ...], feeding: Feeding) -> None:
    feeds[0]._answer(asked(1, 4))
    feeds[2]._answer(asked(0))
    assert feeding._samples is not None
    book = feeding._samples._releases
    assert (book.total, book.counts(TRAIN)[:5].tolist()) == (3, [1, 1, 0, 0, 1])
    assert feeds[0]._answer(asked(1)).batch.resent_samples == 1


def test_a_ranks_own_count_is_held_against_its_samples_alone(feeds: tuple[SiteFeed, ...]) -> None:
    """What others have received hides nothing: the book counts four, but one of rank 1's."""
    feeds[0]._answer(asked(1, 4, 7))
    feeds[1]._answer(asked(2))
    request = asked(5)
    request.samples.received_samples = 2
    with pytest.raises(DamagedError, match=r"counts 1 samples sent, compute/.* rank 1 has received 2"):
        feeds[1]._answer(request)
    request.samples.received_samples = 1
    feeds[1]._answer(request)


def test_another_key_is_used_for_all_streams_at_once(feeds: tuple[SiteFeed, ...], feeding: Feeding) -> None:
    feeds[0]._answer(asked(1))
    feeding.switch(second(feeding))
    assert [feed.key_changed for feed in feeds] == [True, False, False]
    answers = [feed._answer(asked(sample)).batch for feed, sample in zip(feeds, (4, 2, 0), strict=True)]
    assert [answer.key_ref.epoch for answer in answers] == [2, 2, 2]


@pytest.mark.parametrize(
    "message",
    [
        compute_pb2.FeedResponse(logits=compute_pb2.Logits(request_id=1)),
        compute_pb2.FeedResponse(network_ready=compute_pb2.NetworkReady(total_bytes=1)),
    ],
)
def test_scores_and_network_are_rank_0s(feeds: tuple[SiteFeed, ...], message: compute_pb2.FeedResponse) -> None:
    assert "instead of a request, from rank 2" in str(refusal(feeds[2], message))
