"""Scoring at the site, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.metrics import TALLIES, Outputs, reordered, tallies
from mple.metrics.messages import from_messages
from mple.v1 import common_pb2, compute_pb2
from provider_node.feeding.scoring import LogitsError, SplitScoring, plain_logits

TEST, VAL = common_pb2.SPLIT_TEST, common_pb2.SPLIT_VAL
ORDER = np.array([2, 0, 1])
"""Place 0 on the wire holds class 2, place 1 class 0, place 2 class 1."""
LABELS = np.array([0, 1, 2, 2])


def logits(rows: list[list[float]], samples: list[int], **changed: Any) -> compute_pb2.Logits:
    values = np.array(rows, "<f4").tobytes()
    known = {"request_id": 7, "epoch": 3, "split": TEST, "sample_ids": samples, "classes": 3, "values": values}
    return compute_pb2.Logits(**(known | changed))


def scoring(labels: NDArray[np.int64] = LABELS, order: NDArray[np.int64] = ORDER, **changed: Any) -> SplitScoring:
    """Of a plan of four epochs, at a site that withholds nothing."""
    return SplitScoring({TEST: labels, VAL: labels}, order, **({"epochs": 4, "most": {TEST: 8, VAL: 8}} | changed))


def score(
    message: compute_pb2.Logits, labels: NDArray[np.int64] = LABELS, order: NDArray[np.int64] = ORDER
) -> compute_pb2.Score:
    """Of a message with the whole split."""
    return scoring(labels, order).take(message)


def right(found: compute_pb2.Score) -> int:
    """Right answers, of as many samples as the message has."""
    samples, count = from_messages(found.tallies)["counts"].counts
    assert samples == found.samples
    return count


def loss_sum(found: compute_pb2.Score) -> float:
    assert list(found.tallies["loss"].counts) == [found.samples]
    return found.tallies["loss"].sums[0]


def test_a_message_scored_by_hand() -> None:
    """On the wire (0, ln 2, 0) means class 0 with chance 1/2; (ln 6, 0, 0) means class 2 with chance 3/4."""
    message = logits([[0, math.log(2), 0], [0, 0, math.log(2)], [math.log(6), 0, 0], [0, 0, math.log(6)]], [0, 1, 2, 3])
    found = score(message)
    assert (found.request_id, found.epoch, found.samples, right(found)) == (7, 3, 4, 3)
    assert loss_sum(found) == pytest.approx(2 * math.log(2) - math.log(3 / 4) - math.log(1 / 8), rel=1e-6)


def test_samples_come_in_any_order() -> None:
    rows = [[5.0, 0, 0], [0, 5.0, 0]]
    labels = np.array([0, 2])
    assert right(score(logits(rows, [1, 0]), labels)) == 2
    assert right(score(logits(rows, [0, 1]), labels)) == 0


def test_tallies_come_with_the_last_message_and_cover_the_whole_split() -> None:
    rows = np.random.Generator(np.random.PCG64(1)).normal(size=(4, 3)).astype("<f4")
    kept: list[tuple[int, int, NDArray[np.float32]]] = []
    site = scoring(keep=lambda split, epoch, logits_NC: kept.append((split, epoch, logits_NC)))
    first = site.take(logits(rows[[2, 0]].tolist(), [2, 0]))
    assert (first.samples, dict(first.tallies), list(first.withheld), kept) == (2, {}, [], [])
    last = site.take(logits(rows[[1, 3]].tolist(), [1, 3], request_id=8))
    assert (last.request_id, last.samples, last.split, set(last.tallies)) == (8, 2, TEST, set(TALLIES))
    plain_NC = rows[:, np.argsort(ORDER)]
    made = from_messages(last.tallies)
    assert reordered(made, np.argsort(ORDER), Outputs(3)) == tallies(plain_NC.astype(np.float64), LABELS, Outputs(3))
    ((split, epoch, logits_NC),) = kept
    assert (split, epoch) == (TEST, 3)
    np.testing.assert_array_equal(logits_NC, plain_NC)


def test_tallies_of_classes_are_in_the_permuted_order() -> None:
    """Class 0 is in place 1, class 1 in place 2, class 2, which has two samples, in place 0."""
    found = score(logits([[0, 9, 0], [0, 0, 9], [9, 0, 0], [0, 9, 0]], [0, 1, 2, 3]))
    confusion = from_messages(found.tallies)["confusion"].counts
    assert list(confusion) == [1, 1, 0, 0, 1, 0, 0, 0, 1]


def test_a_part_of_a_split_is_forgotten_with_its_stream_and_when_another_scoring_begins() -> None:
    site, row = scoring(), [[0.0, 0, 0]]
    for other in ({"epoch": 4}, {"split": VAL}):
        site.take(logits(row * 3, [0, 1, 2]))
        assert not site.take(logits(row, [3], **other)).tallies
        site.forget_part()
        assert not site.take(logits(row, [3])).tallies
        site.forget_part()
    site.take(logits(row * 3, [0, 1, 2]))
    with pytest.raises(LogitsError, match="twice"):
        site.take(logits(row, [2]))
    assert site.take(logits(row, [3])).tallies, "a message that is refused changes nothing"


def test_a_split_is_scored_as_often_as_the_plan_allows() -> None:
    site, row = scoring(most={TEST: 2, VAL: 8}), [[0.0, 0, 0]]
    for _ in range(2):
        assert site.take(logits(row * 4, [0, 1, 2, 3])).tallies
    with pytest.raises(LogitsError, match="scored 2 times before"):
        site.take(logits(row, [0]))
    assert site.take(logits(row * 4, [0, 1, 2, 3], split=VAL)).tallies


def test_few_samples_are_not_told_of() -> None:
    site = scoring(least_count=5, names=("counts", "scores"))
    answer = site.take(logits([[0.0, 0, 0]] * 4, [0, 1, 2, 3]))
    assert (dict(answer.tallies), list(answer.withheld)) == ({}, ["counts", "scores"])


def test_plain_logits_are_in_the_sites_own_order() -> None:
    plain = plain_logits(np.array([[10, 20, 30], [1, 2, 3]], "<f4").tobytes(), 2, ORDER)
    np.testing.assert_array_equal(plain, [[20, 30, 10], [2, 3, 1]])


@settings(max_examples=25)
@given(st.permutations(range(5)), hnp.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32)))
def test_scores_do_not_depend_on_the_order_of_the_classes(order: list[int], plain: NDArray[np.float32]) -> None:
    """Permuted place j holds class order[j]: permuting and undoing it changes nothing."""
    label_order = np.array(order)
    undone = plain_logits(plain[:, label_order].astype("<f4").tobytes(), 3, label_order)
    np.testing.assert_array_equal(undone, plain)
    labels = np.array([0, 4, 2])
    message = logits(plain.tolist(), [0, 1, 2], classes=5)
    permuted = logits(plain[:, label_order].tolist(), [0, 1, 2], classes=5)
    ours, theirs = score(message, labels, np.arange(5)), score(permuted, labels, label_order)
    assert loss_sum(ours) == pytest.approx(loss_sum(theirs), rel=1e-12, abs=1e-12)
    assert right(ours) == right(theirs) or len(np.unique(plain)) < plain.size  # ties go to the first place


@pytest.mark.parametrize("gap", [10.0, 800.0, 1e30])
def test_a_hopeless_answer_costs_what_cross_entropy_says(gap: float) -> None:
    """-log softmax is the gap itself, far beyond where the probability itself underflows."""
    found = score(logits([[gap, 0, 0]], [0]), np.array([0]))
    assert right(found) == 0
    assert loss_sum(found) == pytest.approx(gap, rel=1e-4)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (logits([], []), "logits for 0 samples"),
        (logits([[0, 0, 0]], [4]), "1 samples up to number 4 of 4"),
        (logits([[0, 0, 0]], [2**32 - 1]), "up to number 4294967295"),
        (logits([[0, 0, 0]], [0, 1]), "12 bytes of logits for 2 samples and 3 classes"),
        (logits([[0, 0, 0, 0]], [0], classes=4), "4 classes"),
        (logits([[0, 0, 0]], [0], classes=2), "2 classes"),
        (logits([[0, math.nan, 0]], [0]), "NaN or infinity"),
        (logits([[0, math.inf, 0]], [0]), "NaN or infinity"),
        (logits([[0, 0, -math.inf]], [0]), "NaN or infinity"),
        (logits([[0, 0, 0]], [0], values=bytes(11)), "11 bytes"),
        (logits([[0, 0, 0]], [0], epoch=0), "epoch 0; the plan has 4"),
        (logits([[0, 0, 0]], [0], epoch=5), "epoch 5; the plan has 4"),
        (logits([[0, 0, 0]], [0], split=common_pb2.SPLIT_TRAIN), "logits of split 1"),
        (logits([[0, 0, 0]] * 2, [0, 0]), "twice"),
    ],
)
def test_malformed_logits_are_refused(message: compute_pb2.Logits, text: str) -> None:
    with pytest.raises(LogitsError, match=text):
        score(message)
