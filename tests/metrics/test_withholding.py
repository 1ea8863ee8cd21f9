"""What a site does not tell of few samples, and that no difference tells it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.metrics import TALLIES, Outputs, tallies
from mple.metrics.outputs import truths_of
from mple.metrics.tallies import counts_of
from mple.metrics.withholding import classes_left_out, told, withheld_text
from mple.model.settings import TaskKind
from tests.support.judged import drawn

ALL = tuple(TALLIES)


def labels_of(*sizes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize(
    ("sizes", "out"),
    [
        ((10, 20, 30), []),
        ((10, 20, 4), [0, 2]),  # 4 alone would be the total less 30
        ((10, 3, 3), [1, 2]),  # 6 together, and of neither which
        ((10, 20, 1, 1), [0, 2, 3]),  # 2 together are too few
        ((10, 20, 0), []),  # of a class that nobody has, nobody is told
        ((10, 20, 0, 4), [0, 3]),
        ((10, 3), [0, 1]),
        ((10, 0), []),
        ((3, 3, 3), [0, 1, 2]),
        ((20, 1, 1), [0, 1, 2]),
    ],
)
def test_small_classes_are_left_out_and_one_that_hides_them(sizes: tuple[int, ...], out: list[int]) -> None:
    outputs = Outputs(len(sizes))
    assert np.flatnonzero(classes_left_out(truths_of(labels_of(*sizes), outputs), 5)).tolist() == out


@given(st.lists(st.integers(0, 12), min_size=2, max_size=6), st.integers(1, 8))
def test_no_total_tells_of_fewer_than_the_least_count(sizes: list[int], least: int) -> None:
    labels, outputs = labels_of(*sizes), Outputs(len(sizes))
    logits_NC, _ = drawn(outputs, len(labels))
    here = told(logits_NC, labels, outputs, ALL, least)
    assert set(here.tallies) | set(here.withheld) == set(ALL)
    if len(labels) < least:
        assert not here.tallies
        return
    if "confusion" in here.withheld:
        assert here.withheld == ("confusion", "scores")
        return
    rows = counts_of("confusion", here.tallies["confusion"], outputs)
    shown = rows.sum(axis=1)
    assert all(count == 0 or count == size >= least for count, size in zip(shown, sizes, strict=True))
    hidden = [size for size, count in zip(sizes, shown, strict=True) if size and not count]
    missing = here.tallies["counts"].counts[0] - shown.sum()
    assert missing == 0 or (missing >= least and len(hidden) >= 2)
    scores = counts_of("scores", here.tallies["scores"], outputs)
    assert [bool(count) for count in scores[:, 0].sum(axis=1)] == [bool(count) for count in shown]


def test_what_is_told_of_the_other_classes_is_unchanged() -> None:
    outputs = Outputs(4)
    logits_NC, _ = drawn(outputs, 60)
    labels = labels_of(30, 20, 6, 4)
    here, whole = told(logits_NC, labels, outputs, ALL, 5), tallies(logits_NC, labels, outputs)
    assert (here.left_out, here.withheld) == ((2, 3), ())
    for name in ("counts", "loss", "calibration"):
        assert here.tallies[name] == whole[name]
    for name in ("confusion", "scores"):
        ours, all_of = (counts_of(name, made[name], outputs) for made in (here.tallies, whole))
        np.testing.assert_array_equal(ours[:2], all_of[:2])
        assert not ours[2:].any()


def test_labels_with_few_positives_negatives_or_neither() -> None:
    outputs = Outputs(5, TaskKind.LABELS)
    labels = np.full((40, 5), -1)
    for place, (positives, negatives) in enumerate([(20, 20), (4, 30), (30, 4), (0, 40), (0, 0)]):
        labels[:positives, place], labels[positives : positives + negatives, place] = 1, 0
    assert classes_left_out(labels, 5).tolist() == [False, True, True, False, False]
    here = told(np.zeros((40, 5)), labels, outputs, ALL, 5)
    assert here.left_out == (1, 2)
    assert not counts_of("scores", here.tallies["scores"], outputs)[1:3].any()


def test_samples_without_any_known_label_do_not_count() -> None:
    labels = np.full((40, 2), -1)
    labels[:4] = 1
    assert told(np.zeros((40, 2)), labels, Outputs(2, TaskKind.LABELS), ("counts", "loss"), 5).withheld == (
        "counts",
        "loss",
    )


def test_what_is_withheld_in_words() -> None:
    names, outputs = ("a", "b", "c"), Outputs(3)

    def words(*sizes: int) -> str:
        return withheld_text(labels_of(*sizes), outputs, ("counts", "confusion"), 5, names)

    assert words(10, 20, 30) == ""
    assert words(1, 2, 1) == "no counts, confusion"
    assert words(3, 3, 3) == "no confusion"
    assert words(10, 20, 4) == "nothing by class of a, c"


def test_with_a_least_count_of_one_nothing_is_withheld() -> None:
    outputs = Outputs(3)
    logits_NC, labels = drawn(outputs, 3)
    assert told(logits_NC, labels, outputs, ALL, 1).tallies == tallies(logits_NC, labels, outputs)
