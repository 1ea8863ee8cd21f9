"""Splits are disjoint, complete and repeatable, whatever the set."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.data import DataError, Partition, PartitionKind
from mple.data.partitions import NOBODY, IndexLists, draw_owners, hold_out, listed_owners, subsample

CLASSES = 5
DRAWN = (PartitionKind.IID, PartitionKind.DIRICHLET, PartitionKind.QUANTITY)


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    parts = draw(st.integers(1, 8))
    kind = draw(st.sampled_from(DRAWN))
    share = st.floats(1e-9, 1e9)
    return Partition(
        kind=kind,
        parts=parts,
        seed=draw(st.integers(0, 2**64)),
        alpha=draw(st.floats(1e-6, 1e6)),
        shares=tuple(draw(share) for _ in range(parts)) if kind is PartitionKind.QUANTITY else (),
    )


def labels(fewest: int) -> st.SearchStrategy[np.ndarray]:
    label = st.integers(0, CLASSES - 1)
    return st.lists(label, min_size=fewest, max_size=60).map(lambda values: np.asarray(values, np.int64))


@given(partitions(), labels(8), labels(0))
def test_every_image_has_one_owner_and_every_part_an_image(
    partition: Partition, train: np.ndarray, test: np.ndarray
) -> None:
    for owners, images in zip(draw_owners(partition, (train, test), CLASSES), (train, test), strict=True):
        assert owners.shape == images.shape
        assert ((owners >= 0) & (owners < partition.parts)).all()
    train_owners, _ = draw_owners(partition, (train, test), CLASSES)
    assert set(train_owners.tolist()) == set(range(partition.parts))


@given(partitions(), labels(8), labels(0))
def test_equal_arguments_give_equal_owners(partition: Partition, train: np.ndarray, test: np.ndarray) -> None:
    first, second = (draw_owners(partition, (train.copy(), test.copy()), CLASSES) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@given(st.integers(1, 9), st.integers(9, 200))
def test_parts_of_iid_differ_by_one_at_most(parts: int, images: int) -> None:
    partition = Partition(kind=PartitionKind.IID, parts=parts)
    owners, _ = draw_owners(partition, (np.zeros(images, np.int64), np.zeros(0, np.int64)), CLASSES)
    counts = np.bincount(owners, minlength=parts)
    assert counts.max() - counts.min() <= 1


def test_another_seed_gives_another_split() -> None:
    train = np.arange(100) % CLASSES
    a, b = (draw_owners(Partition(kind=PartitionKind.IID, parts=4, seed=s), (train, train), CLASSES)[0] for s in (1, 2))
    assert (a != b).any()


def test_quantity_follows_the_shares() -> None:
    partition = Partition(kind=PartitionKind.QUANTITY, parts=3, shares=(5, 3, 2))
    train, test = draw_owners(partition, (np.zeros(1000, np.int64), np.zeros(100, np.int64)), 2)
    assert np.bincount(train).tolist() == [500, 300, 200]
    assert np.bincount(test).tolist() == [50, 30, 20]


def test_a_share_too_small_for_an_image_still_gets_one() -> None:
    partition = Partition(kind=PartitionKind.QUANTITY, parts=3, shares=(1, 1e-9, 1))
    train, _ = draw_owners(partition, (np.zeros(10, np.int64), np.zeros(0, np.int64)), 2)
    assert sorted(np.bincount(train).tolist()) == [1, 4, 5]


def test_dirichlet_gives_train_and_test_the_same_class_proportions() -> None:
    partition = Partition(kind=PartitionKind.DIRICHLET, parts=4, alpha=0.3, seed=5)
    train, test = np.arange(5000) % CLASSES, np.arange(1000) % CLASSES
    owners = draw_owners(partition, (train, test), CLASSES)
    for label in range(CLASSES):
        of_train = np.bincount(owners[0][train == label], minlength=4) / 1000
        of_test = np.bincount(owners[1][test == label], minlength=4) / 200
        np.testing.assert_allclose(of_train, of_test, atol=0.006)


def test_small_alpha_is_more_uneven_than_large() -> None:
    train = np.arange(5000) % CLASSES
    spread = []
    for alpha in (0.05, 1000):
        partition = Partition(kind=PartitionKind.DIRICHLET, parts=4, alpha=alpha)
        owners, _ = draw_owners(partition, (train, train), CLASSES)
        spread.append(np.mean([np.bincount(owners[train == label], minlength=4).std() for label in range(CLASSES)]))
    assert spread[0] > 10 * spread[1]


def test_a_class_that_is_only_in_the_test_split_is_split_too() -> None:
    partition = Partition(kind=PartitionKind.DIRICHLET, parts=2)
    _, test = draw_owners(partition, (np.array([0, 0, 1]), np.array([4, 4, 4])), CLASSES)
    assert len(test) == 3
    assert set(test.tolist()) <= {0, 1}


def test_the_split_of_a_seed_stays_what_it_was() -> None:
    train, test = np.arange(12) % 3, np.arange(4) % 3
    kept = {
        PartitionKind.IID: ([1, 1, 2, 2, 2, 2, 0, 0, 1, 1, 0, 0], [2, 1, 1, 0]),
        PartitionKind.DIRICHLET: ([1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 2], [1, 1, 1, 0]),
    }
    for kind, (golden_train, golden_test) in kept.items():
        owners = draw_owners(Partition(kind=kind, parts=3, seed=7), (train, test), 3)
        assert (owners[0].tolist(), owners[1].tolist()) == (golden_train, golden_test)


def test_fewer_images_than_parts_is_an_error() -> None:
    with pytest.raises(DataError, match="2 training images can't give 3 parts one each; take fewer parts"):
        draw_owners(Partition(kind=PartitionKind.IID, parts=3), (np.array([0, 1]), np.array([0])), 2)


def test_all_gives_everything_to_the_only_part() -> None:
    train, test = draw_owners(Partition(), (np.array([0, 1, 0]), np.array([1])), 2)
    assert train.tolist() == [0, 0, 0]
    assert test.tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"kind": PartitionKind.IID, "parts": 2, "part": 2}, "part = 2 of parts = 2"),
        ({"kind": PartitionKind.IID, "parts": 0}, "parts = 0"),
        ({"parts": 2}, "choose iid"),
        ({"kind": PartitionKind.DIRICHLET, "alpha": 0.0}, "alpha = 0.0"),
        ({"kind": PartitionKind.DIRICHLET, "alpha": float("nan")}, "alpha = nan"),
        ({"kind": PartitionKind.QUANTITY, "parts": 2}, "shares"),
        ({"kind": PartitionKind.QUANTITY, "parts": 2, "shares": (1.0,)}, "one for each of 2 parts"),
        ({"kind": PartitionKind.QUANTITY, "parts": 2, "shares": (1.0, 0.0)}, "above 0"),
        (
            {"kind": PartitionKind.QUANTITY, "parts": 2, "shares": (1.0, float("inf"))},
            r"shares\[1\] = inf; allowed are above 0",
        ),
        ({"kind": PartitionKind.IID, "parts": 2, "shares": (1.0, 1.0)}, 'go with kind = "quantity"'),
        ({"kind": PartitionKind.LIST, "parts": 2}, "file"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_contradicting_settings_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Partition(**wrong)


def _lists(*train: list[int]) -> list[IndexLists]:
    return [IndexLists(np.asarray(part, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)) for part in train]


def test_listed_images_belong_to_their_part_and_others_to_nobody() -> None:
    train, test, val = listed_owners(_lists([4, 0], [2]), (5, 3, 2))
    assert train.tolist() == [0, NOBODY, 1, NOBODY, 0]
    assert (test.tolist(), val.tolist()) == ([NOBODY] * 3, [NOBODY] * 2)


@pytest.mark.parametrize(
    ("lists", "text"),
    [
        (_lists([0, 5]), "part 0: number 5; there are 5 images"),
        (_lists([0], [-1]), "part 1: number -1"),
        (_lists([0], [3, 3]), "part 1: image 3 comes twice"),
        (_lists([0, 1], [2, 1]), "image 1 is in the lists of part 0 and of part 1"),
    ],
)
def test_lists_out_of_range_or_double_are_refused(lists: list[IndexLists], text: str) -> None:
    with pytest.raises(DataError, match=text):
        listed_owners(lists, (5, 0, 0))


@given(labels(0), st.floats(0, 0.999), st.integers(0, 100))
def test_holding_out_takes_the_share_of_each_class_and_never_all(found: np.ndarray, share: float, seed: int) -> None:
    held = hold_out(found, share, seed)
    for label in np.unique(found):
        members = found == label
        assert held[members].sum() == min(round(share * members.sum()), members.sum() - 1)
    np.testing.assert_array_equal(held, hold_out(found, share, seed))


def test_holding_out_with_another_seed_takes_others() -> None:
    found = np.zeros(100, np.int64)
    assert (hold_out(found, 0.5, 1) != hold_out(found, 0.5, 2)).any()


@given(st.integers(0, 50), st.integers(0, 60) | st.none())
def test_a_subsample_ascends_and_is_part_of_the_whole(count: int, most: int | None) -> None:
    places = np.arange(count) * 3
    chosen = subsample(places, most, seed=4)
    assert len(chosen) == (count if most is None else min(count, most))
    assert set(chosen) <= set(places)
    assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize(("kind", "alpha"), [(PartitionKind.IID, 0.5), (PartitionKind.DIRICHLET, 1e-6)])
def test_a_thousand_parts_of_few_images_all_have_one_to_train_on(kind: PartitionKind, alpha: float) -> None:
    """By class nearly all would go to a part for each class, and validation would take the rest's only image."""
    train = np.arange(1_200) % CLASSES
    partition = Partition(kind=kind, parts=1_000, alpha=alpha)
    owners, _ = draw_owners(partition, (train, train[:50]), CLASSES)
    counts = np.bincount(owners, minlength=1_000)
    assert (len(counts), counts.min(), counts.sum()) == (1_000, 1, 1_200)
    for part in range(0, 1_000, 97):
        own = train[owners == part]
        assert (~hold_out(own, 0.4, 0, validation=True)).any()
