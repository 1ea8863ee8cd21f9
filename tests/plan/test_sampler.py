"""The order of training: every sample once an epoch, even steps, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.plan import GlobalSampler, ModelSettings, WeightsFrom
from mple.plan.orders import channel_order, label_order, seal_info
from mple.plan.sample_numbering import SampleNumbering
from tests.support.small_plan import small_plan

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def test_the_order_is_golden() -> None:
    """A restart, perhaps with a newer NumPy, must go on in the same order."""
    sampler = GlobalSampler([5, 4, 3], batch=5, seed=7)
    steps = [[sampler.step(epoch, step).tolist() for step in range(sampler.steps_per_epoch)] for epoch in (0, 1)]
    assert steps == [[[4, 6, 10, 0], [1, 3, 8, 7], [2, 5, 9, 11]], [[7, 10, 6, 11], [0, 8, 9, 1], [3, 4, 2, 5]]]


@given(sizes=SIZES, batch=st.integers(1, 40), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10_000))
def test_every_sample_is_in_one_step_and_steps_are_even(sizes: list[int], batch: int, seed: int, epoch: int) -> None:
    sampler = GlobalSampler(sizes, batch, seed)
    steps = [sampler.step(epoch, step) for step in range(sampler.steps_per_epoch)]
    lengths = [len(step) for step in steps]
    assert sorted(np.concatenate(steps).tolist()) == list(range(sum(sizes)))
    assert max(lengths) <= batch
    assert max(lengths) - min(lengths) <= 1
    assert len(steps) == -(-sum(sizes) // batch)


@given(sizes=SIZES, seed=st.integers(0, 2**63 - 1))
def test_a_step_does_not_depend_on_what_was_asked_before(sizes: list[int], seed: int) -> None:
    fresh, used = GlobalSampler(sizes, 7, seed), GlobalSampler(sizes, 7, seed)
    used.step(3, 0)
    used.step(0, used.steps_per_epoch - 1)
    assert np.array_equal(used.epoch_order(1), fresh.epoch_order(1))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(GlobalSampler([50], 10, seed).epoch_order(epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_steps_mix_all_sites() -> None:
    """Each of 100 steps of 30 samples has samples of all three equal sites."""
    sampler = GlobalSampler([1000, 1000, 1000], batch=30, seed=1)
    numbering = SampleNumbering({"a": 1000, "b": 1000, "c": 1000})
    for step in range(sampler.steps_per_epoch):
        assert len(numbering.by_site(sampler.step(0, step))) == 3


@pytest.mark.parametrize(("sizes", "batch"), [([], 1), ([3, 0], 1), ([3], 0)])
def test_impossible_orders_are_refused(sizes: list[int], batch: int) -> None:
    with pytest.raises(ValueError, match="needs"):
        GlobalSampler(sizes, batch, 1)


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 3)])
def test_steps_that_are_not_there(epoch: int, step: int) -> None:
    with pytest.raises(IndexError, match="steps 0 to 2"):
        GlobalSampler([9], 3, 1).step(epoch, step)


def test_channel_and_label_orders_are_golden_and_apart() -> None:
    """Sites draw them for themselves from the consortium secret, and must come to the same."""
    secret, plan = bytes(range(32)), small_plan(classes=tuple("abcdefgh"))
    assert channel_order(plan, secret).tolist() == [6, 1, 5, 4, 0, 2, 7, 3]
    assert label_order(plan, secret).tolist() == [7, 0, 4, 3, 5, 2, 6, 1]


@pytest.mark.parametrize(("weights", "hidden"), [("features", [7, 0, 4, 3, 5, 2, 6, 1]), ("network", list(range(8)))])
def test_what_a_file_of_weights_tells_is_in_its_own_order(weights: str, hidden: list[int]) -> None:
    secret, model = bytes(range(32)), ModelSettings(width=0.125, weights=WeightsFrom(weights))
    plan = small_plan(classes=tuple("abcdefgh"), model=model)
    assert channel_order(plan, secret).tolist() == list(range(8))
    assert label_order(plan, secret).tolist() == hidden


def test_an_envelopes_context_tells_its_parts_apart() -> None:
    """Lengths go first: no two different quadruples give the same bytes."""
    contexts = {
        seal_info("run", "a", "b", 1),
        seal_info("run", "ab", "", 1),
        seal_info("runa", "", "b", 1),
        seal_info("run", "b", "a", 1),
        seal_info("run", "a", "b", 2),
    }
    assert len(contexts) == 5
