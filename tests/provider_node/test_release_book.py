"""The release book: no sample leaves more often than the plan allows, whatever is asked and however often it starts."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.disk.damage import DamagedError
from mple.exit_codes import ExitCode
from mple.v1 import common_pb2
from provider_node.feeding.release_book import ReleaseBook, ReleaseError
from tests.support.small_plan import TEST, TRAIN, VAL

TRAIN_IMAGES, TEST_IMAGES = 5, 3


def book(folder: Path, **changed: Any) -> ReleaseBook:
    return ReleaseBook(folder / "releases.bin", **({"train": TRAIN_IMAGES, "test": TEST_IMAGES, "most": 2} | changed))


def counts(folder: Path) -> tuple[list[int], list[int]]:
    kept = book(folder)
    return kept.counts(TRAIN).tolist(), kept.counts(TEST).tolist()


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
    releases = book(tmp_path, val=2, most=1)
    for split, images in ((TRAIN, TRAIN_IMAGES), (VAL, 2), (TEST, TEST_IMAGES)):
        releases.release(split, list(range(images)))
    releases = book(tmp_path, val=2, most=1)
    assert refused(releases, VAL, [0]).limit
    assert refused(releases, TRAIN, [0]).limit
    assert refused(releases, TEST, [0]).limit


def test_the_count_survives_a_restart(tmp_path: Path) -> None:
    book(tmp_path).release(TRAIN, [2])
    book(tmp_path).release(TRAIN, [2])
    assert refused(book(tmp_path), TRAIN, [2]).limit
    assert counts(tmp_path) == ([0, 0, 2, 0, 0], [0, 0, 0])


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
    assert counts(tmp_path) == ([0] * 5, [0] * 3)


def test_a_site_without_test_images_releases_none(tmp_path: Path) -> None:
    assert "the split has 0, from 0" in str(refused(book(tmp_path, test=0), TEST, [0]))


def test_a_book_of_other_sizes_is_refused(tmp_path: Path) -> None:
    book(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"counts 5, 0, 3 samples of training, validation and testing, the site has 6, 0, 3; begin a new run",
    ):
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
        plain = sent[split]
        own = samples and len(set(samples)) == len(samples) and max(samples) < len(plain)
        if own and all(plain[sample] < most for sample in samples):
            releases.release(split, samples)
            for sample in samples:
                plain[sample] += 1
        else:
            assert refused(releases, split, samples).limit == bool(own)
    assert counts(folder) == (sent[TRAIN], sent[TEST])


# Durable, and not to be rolled back unseen.


def test_a_release_is_on_the_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases, told = book(tmp_path), []
    monkeypatch.setattr("os.fdatasync", lambda _file: told.append((tmp_path / "releases.bin").read_bytes()))
    releases.release(TRAIN, [1, 2])
    assert told == [(tmp_path / "releases.bin").read_bytes()]


def test_what_a_killed_process_left_of_a_record_was_never_sent(tmp_path: Path) -> None:
    book(tmp_path).release(TRAIN, [1])
    whole = (tmp_path / "releases.bin").read_bytes()
    book(tmp_path).release(TRAIN, [3, 4])
    more = (tmp_path / "releases.bin").read_bytes()
    for end in range(len(whole), len(more)):
        (tmp_path / "releases.bin").write_bytes(more[:end])
        assert counts(tmp_path) == ([0, 1, 0, 0, 0], [0, 0, 0])
        assert (tmp_path / "releases.bin").read_bytes() == whole
    (tmp_path / "releases.bin").write_bytes(whole + bytes(len(more) - len(whole)))  # size, without its blocks
    assert counts(tmp_path) == ([0, 1, 0, 0, 0], [0, 0, 0])


def three_releases(folder: Path) -> bytes:
    releases = book(folder)
    for split, samples in ((TRAIN, [1, 2]), (TEST, [0]), (TRAIN, [2, 4])):
        releases.release(split, samples)
    return (folder / "releases.bin").read_bytes()


def test_every_bit_counts(tmp_path: Path) -> None:
    """Whichever bit of the file is another, nothing more is sent: by the file alone, or by the ledger's count."""
    whole = three_releases(tmp_path)
    for place in range(len(whole)):
        for bit in range(8):
            changed = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
            (tmp_path / "releases.bin").write_bytes(changed)
            with pytest.raises(DamagedError, match=r"releases\.bin"):
                book(tmp_path, sent=5)
            assert (tmp_path / "releases.bin").read_bytes() == changed, "it is left as it was found"


@pytest.mark.parametrize("damage", ["one byte", "all but one release", "zeros", "gone", "older", "empty"])
def test_what_shows_less_than_was_sent_sends_nothing_more(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "releases.bin"
    whole = three_releases(tmp_path)
    (tmp_path / "older").mkdir()
    book(tmp_path / "older").release(TRAIN, [1, 2])
    path.write_bytes(
        {
            "one byte": whole[:-1],
            "all but one release": whole[:40],
            "zeros": whole[:20] + bytes(len(whole) - 20),
            "older": (tmp_path / "older" / "releases.bin").read_bytes(),
        }.get(damage, b"")
    )
    if damage == "gone":
        path.unlink()
    with pytest.raises(DamagedError) as caught:
        book(tmp_path, sent=5)
    assert caught.value.code is ExitCode.DAMAGED
    assert "begin a new run" in caught.value.fix
    path.write_bytes(whole)
    assert book(tmp_path, sent=5).total == 5


def test_records_of_another_place_are_none(tmp_path: Path) -> None:
    """The checksums are a chain: a record can't be left out or stand twice."""
    whole = three_releases(tmp_path)
    head, first, second = whole[:16], whole[16:33], whole[33:46]
    for changed in (head + second, head + first + first, head + second + first, head + first + whole[46:]):
        (tmp_path / "releases.bin").write_bytes(changed)
        with pytest.raises(DamagedError):
            book(tmp_path, sent=5)


def test_a_witness_may_know_less_but_not_more(tmp_path: Path) -> None:
    three_releases(tmp_path)
    releases = book(tmp_path)
    for sent in (0, 4, 5):
        releases.require(sent, "compute/c has received")
    with pytest.raises(DamagedError, match="counts 5 samples sent, compute/c has received 6: it was cut"):
        releases.require(6, "compute/c has received")


def test_a_full_disk_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = book(tmp_path)
    releases.release(TRAIN, [1])
    whole = (tmp_path / "releases.bin").read_bytes()

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", full)
        with pytest.raises(OSError, match="no room"):
            releases.release(TRAIN, [1, 2])
    assert (tmp_path / "releases.bin").read_bytes() == whole
    releases.release(TRAIN, [1])
    assert counts(tmp_path) == ([0, 2, 0, 0, 0], [0, 0, 0])
