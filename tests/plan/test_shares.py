"""Ranks share samples and steps out: each sample at one rank, equally many steps, the sizes of a single rank's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.plan import GlobalSampler, PlanError, TrainingSettings
from mple.plan.shares import Share, require_enough
from tests.support.small_plan import small_plan


@given(samples=st.integers(0, 200), ranks=st.integers(1, 9), number=st.integers(0, 220))
def test_each_number_belongs_to_one_rank(samples: int, ranks: int, number: int) -> None:
    shares = [Share(rank, ranks) for rank in range(ranks)]
    own = [share.numbers(samples).tolist() for share in shares]
    assert own == [[n for n in range(samples) if n % ranks == rank] for rank in range(ranks)]
    assert [share.below(number) for share in shares] == [
        len([n for n in range(number) if n % ranks == s.rank]) for s in shares
    ]


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    batch=st.integers(1, 40),
    ranks=st.integers(1, 5),
    epoch=st.integers(0, 10_000),
)
def test_ranks_take_the_steps_of_one_together(sizes: list[int], batch: int, ranks: int, epoch: int) -> None:
    alone = GlobalSampler(sizes, batch, 3)
    samplers = [GlobalSampler(sizes, batch, 3, Share(rank, ranks)) for rank in range(ranks)]
    assert {sampler.steps_per_epoch for sampler in samplers} == {alone.steps_per_epoch}
    steps = [[sampler.step(epoch, step) for sampler in samplers] for step in range(alone.steps_per_epoch)]
    assert [sum(map(len, parts)) for parts in steps] == [
        len(alone.step(epoch, step)) for step in range(alone.steps_per_epoch)
    ]
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in steps)
    for rank, sampler in enumerate(samplers):
        own = np.concatenate([parts[rank] for parts in steps])
        assert np.array_equal(own, sampler.epoch_order(epoch))
        assert sorted(own.tolist()) == list(range(rank, sum(sizes), ranks))


def test_ranks_have_orders_of_their_own() -> None:
    orders = [GlobalSampler([60], 10, 1, Share(rank, 2)).epoch_order(epoch) // 2 for rank in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_of_a_rank_is_golden() -> None:
    sampler = GlobalSampler([5, 4, 3], batch=5, seed=7, share=Share(1, 2))
    assert [sampler.step(0, step).tolist() for step in range(3)] == GOLDEN


GOLDEN = [[3, 5], [7, 11], [1, 9]]


@pytest.mark.parametrize(("rank", "ranks"), [(-1, 2), (2, 2), (0, 0)])
def test_impossible_ranks_are_refused(rank: int, ranks: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} of {ranks}"):
        Share(rank, ranks)


@given(samples=st.integers(1, 80), batch=st.integers(2, 20), ranks=st.integers(2, 8))
def test_steps_too_small_for_the_ranks_are_refused(samples: int, batch: int, ranks: int) -> None:
    """By counting every step of every rank."""
    samplers = [GlobalSampler([samples], batch, 1, Share(rank, ranks)) for rank in range(ranks)]
    least = min(len(sampler.step(0, step)) for sampler in samplers for step in range(sampler.steps_per_epoch))
    try:
        require_enough(samples, batch, ranks)
    except ValueError:
        assert least < 2
    else:
        assert least >= 2


def test_one_rank_may_have_any_steps() -> None:
    require_enough(3, 2, 1)


def test_a_plan_with_too_many_ranks_is_refused_with_the_way_out() -> None:
    """Nine training samples in two steps: the smaller one has four."""
    small_plan(training=TrainingSettings(batch=8, ranks=2))
    with pytest.raises(
        PlanError, match=r"training.ranks = 3 with training.batch = 8 and 9 .*at most 2 ranks, or raise"
    ):
        small_plan(training=TrainingSettings(batch=8, ranks=3))
