"""What an epoch has used: each sample once, what was missing, and all of it through a checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_node.training.epoch_record import EpochRecord, ranges
from mple.plan import GlobalSampler
from mple.rpc import ErrorCode, MpleError
from tests.support.checkpoints import POSITION
from tests.support.small_plan import small_plan

SAMPLER = GlobalSampler([5, 4], 3, seed=1)


def test_a_whole_epoch_uses_each_sample_once_across_a_checkpoint() -> None:
    record = EpochRecord.begin(1, SAMPLER)
    record.took(0, SAMPLER.step(1, 0), 3.0)
    position = dataclasses.replace(POSITION, epoch=1, step=1)
    record = EpochRecord.of(position, record.tensors())
    for step in (1, 2):
        record.took(step, SAMPLER.step(1, step), float(step))
    record.require_once()
    assert (record.samples, record.mean_loss(), record.missing(small_plan())) == (9, 2.0, {})


def test_a_sample_used_twice_is_found() -> None:
    record = EpochRecord.begin(0, SAMPLER)
    record.took(0, np.array([1, 7]), 1.0)
    record.took(1, np.array([7]), 1.0)
    with pytest.raises(RuntimeError, match="sample 7 was trained on twice in epoch 1"):
        record.require_once()


def test_missing_samples_are_named_by_their_numbers_within_the_site() -> None:
    record = EpochRecord.begin(0, SAMPLER)
    record.took(0, np.array([0, 1, 2, 3, 4, 7]), 1.0)
    record.took(1, np.array([5]), None)
    assert record.missing(small_plan()) == {"south": "0-1,3"}


def test_an_epoch_without_a_sample_has_no_loss() -> None:
    with pytest.raises(MpleError, match="no sample of any site was here in epoch 1") as fault:
        EpochRecord.begin(0, SAMPLER).mean_loss()
    assert fault.value.code is ErrorCode.STALLED


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_the_numbers(numbers: set[int]) -> None:
    text = ranges(np.array(sorted(numbers), np.int64))
    found = []
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    assert found == sorted(numbers)
