"""The release book: no sample leaves more often than the plan allows, whatever is asked and however often it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.v1 import common_pb2
from provider_node.feeding.release_book import ReleaseBook, ReleaseError
from tests.support.small_plan import TEST, TRAIN

TRAIN_IMAGES, TEST_IMAGES = 5, 3


def book(folder: Path, **changed: Any) -> ReleaseBook:
    return ReleaseBook(folder / "releases.bin", **({"train": TRAIN_IMAGES, "test": TEST_IMAGES, "most": 2} | changed))


def refused(book: ReleaseBook, split: common_pb2.Split, samples: list[int]) -> ReleaseError:
    with pytest.raises(ReleaseError) as fault:
        book.release(split, samples)
    return fault.value


def test_each_sample_leaves_as_often_as_planned(tmp_path: Path) -> None:
    releases = book(tmp_path)
    releases.release(TRAIN, [0, 1])
    releases.release(TRAIN, [1, 4])
    fault = refused(releases, TRAIN, [2, 1])
    assert fault.limit
    assert str(fault) == "sample 1 was already sent 2 times; the plan allows 2"


def test_a_refused_request_counts_for_none_of_its_samples(tmp_path: Path) -> None:
    releases = book(tmp_path, most=1)
    releases.release(TRAIN, [3])
    assert refused(releases, TRAIN, [0, 1, 3]).limit
    releases.release(TRAIN, [0, 1])


def test_splits_are_counted_apart(tmp_path: Path) -> None:
    releases = book(tmp_path, most=1)
    releases.release(TRAIN, list(range(TRAIN_IMAGES)))
    releases.release(TEST, list(range(TEST_IMAGES)))
    assert refused(releases, TRAIN, [0]).limit
    assert refused(releases, TEST, [0]).limit


def test_the_count_survives_a_restart(tmp_path: Path) -> None:
    book(tmp_path).release(TRAIN, [2])
    book(tmp_path).release(TRAIN, [2])
    assert refused(book(tmp_path), TRAIN, [2]).limit
    assert (tmp_path / "releases.bin").read_bytes() == bytes([0, 0, 2, 0, 0, 0, 0, 0])


def test_the_largest_limit_does_not_wrap(tmp_path: Path) -> None:
    """A count is one byte; 255 releases fill it."""
    releases = book(tmp_path, most=255)
    for _ in range(255):
        releases.release(TEST, [1])
    assert refused(releases, TEST, [1]).limit


@pytest.mark.parametrize(
    ("split", "samples", "text"),
    [
        (TRAIN, [0, 5], "sample 5 was asked for; the split has 5, from 0"),
        (TRAIN, [2**32 - 1], "sample 4294967295 was asked for"),
        (TRAIN, [-1], "sample -1 was asked for"),
        (TRAIN, [-1, 3], "sample -1 was asked for"),
        (TEST, [3], "sample 3 was asked for; the split has 3, from 0"),
        (TRAIN, [], "a request names no sample"),
        (TRAIN, [1, 2, 1], "names a sample twice"),
        (common_pb2.SPLIT_UNSPECIFIED, [0], "split 0 is not one of the plan's"),
    ],
)
def test_what_is_not_the_sites_is_refused(
    tmp_path: Path, split: common_pb2.Split, samples: list[int], text: str
) -> None:
    fault = refused(book(tmp_path), split, samples)
    assert not fault.limit
    assert text in str(fault)
    assert (tmp_path / "releases.bin").read_bytes() == bytes(8)


def test_a_site_without_test_images_releases_none(tmp_path: Path) -> None:
    assert "the split has 0, from 0" in str(refused(book(tmp_path, test=0), TEST, [0]))


def test_a_book_of_other_sizes_is_refused(tmp_path: Path) -> None:
    book(tmp_path)
    with pytest.raises(ValueError, match=r"counts 8 samples, the site has 9; remove it"):
        book(tmp_path, train=6)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([TRAIN, TEST]), st.lists(st.integers(0, 5), max_size=4)), max_size=25
    ),
)
def test_no_walk_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    most: int,
    walk: list[tuple[bool, common_pb2.Split, list[int]]],
) -> None:
    """Against a plain count, with restarts in between."""
    folder = tmp_path_factory.mktemp("walk")
    releases, sent = book(folder, most=most), {TRAIN: [0] * TRAIN_IMAGES, TEST: [0] * TEST_IMAGES}
    for restart, split, samples in walk:
        if restart:
            releases = book(folder, most=most)
        counts = sent[split]
        own = samples and len(set(samples)) == len(samples) and max(samples) < len(counts)
        if own and all(counts[sample] < most for sample in samples):
            releases.release(split, samples)
            for sample in samples:
                counts[sample] += 1
        else:
            assert refused(releases, split, samples).limit == bool(own)
    assert (folder / "releases.bin").read_bytes() == bytes(sent[TRAIN] + sent[TEST])
