"""Scoring at the site, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.v1 import compute_pb2
from provider_node.feeding.scoring import LogitsError, plain_logits, score

ORDER = np.array([2, 0, 1])
"""Place 0 on the wire holds class 2, place 1 class 0, place 2 class 1."""
LABELS = np.array([0, 1, 2, 2])


def logits(rows: list[list[float]], samples: list[int], classes: int = 3) -> compute_pb2.Logits:
    return compute_pb2.Logits(
        request_id=7, epoch=3, sample_ids=samples, classes=classes, values=np.array(rows, "<f4").tobytes()
    )


def right(found: compute_pb2.Score) -> int:
    """Right answers, of as many samples as the message has."""
    samples, count = found.tallies["counts"].counts
    assert samples == found.samples
    return count


def loss_sum(found: compute_pb2.Score) -> float:
    assert list(found.tallies["loss"].counts) == [found.samples]
    return found.tallies["loss"].sums[0]


def test_a_message_scored_by_hand() -> None:
    """On the wire (0, ln 2, 0) means class 0 with chance 1/2; (ln 6, 0, 0) means class 2 with chance 3/4."""
    message = logits([[0, math.log(2), 0], [0, 0, math.log(2)], [math.log(6), 0, 0], [0, 0, math.log(6)]], [0, 1, 2, 3])
    found = score(message, LABELS, ORDER)
    assert (found.request_id, found.epoch, found.samples, right(found)) == (7, 3, 4, 3)
    assert loss_sum(found) == pytest.approx(2 * math.log(2) - math.log(3 / 4) - math.log(1 / 8), rel=1e-6)


def test_samples_count_within_the_whole_test_split_in_any_order() -> None:
    rows = [[5.0, 0, 0], [0, 5.0, 0]]
    assert right(score(logits(rows, [3, 0]), LABELS, ORDER)) == 2
    assert right(score(logits(rows, [0, 3]), LABELS, ORDER)) == 0


def test_plain_logits_are_in_the_sites_own_order() -> None:
    plain = plain_logits(np.array([[10, 20, 30], [1, 2, 3]], "<f4").tobytes(), 2, ORDER)
    np.testing.assert_array_equal(plain, [[20, 30, 10], [2, 3, 1]])


@given(st.permutations(range(5)), hnp.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32)))
def test_scores_do_not_depend_on_the_order_of_the_classes(order: list[int], plain: NDArray[np.float32]) -> None:
    """Permuted place j holds class order[j]: permuting and undoing it changes nothing."""
    label_order = np.array(order)
    undone = plain_logits(plain[:, label_order].astype("<f4").tobytes(), 3, label_order)
    np.testing.assert_array_equal(undone, plain)
    labels = np.array([0, 4, 2])
    message = compute_pb2.Logits(sample_ids=[0, 1, 2], classes=5, values=plain.astype("<f4").tobytes())
    permuted = compute_pb2.Logits(sample_ids=[0, 1, 2], classes=5, values=plain[:, label_order].astype("<f4").tobytes())
    ours, theirs = score(message, labels, np.arange(5)), score(permuted, labels, label_order)
    assert loss_sum(ours) == pytest.approx(loss_sum(theirs), rel=1e-12, abs=1e-12)
    assert right(ours) == right(theirs) or len(np.unique(plain)) < plain.size  # ties go to the first place


@pytest.mark.parametrize("gap", [10.0, 800.0, 1e30])
def test_a_hopeless_answer_costs_what_cross_entropy_says(gap: float) -> None:
    """-log softmax is the gap itself, far beyond where the probability itself underflows."""
    found = score(logits([[gap, 0, 0]], [0]), LABELS, ORDER)
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
        (compute_pb2.Logits(sample_ids=[0], classes=3, values=bytes(11)), "11 bytes"),
    ],
)
def test_malformed_logits_are_refused(message: compute_pb2.Logits, text: str) -> None:
    with pytest.raises(LogitsError, match=text):
        score(message, LABELS, ORDER)
