"""Cache files of strangers: headers that lie about sizes, samples of others, more samples than there can be."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mple.attacks.lab.cached_codes import read_caches
from mple.disk.bounded import UnsoundFileError
from mple.records.cache_cipher import CacheCipher, CacheError, new_nonce, numbered
from mple.records.cache_records import CacheShape, file_records
from mple.records.layer_list import LayerList
from mple.v1 import common_pb2
from tests.support.small_plan import CACHE_SECRET, small_plan

PLAN = small_plan()
SHAPE = CacheShape.of(PLAN)
LISTED = LayerList(PLAN.sha256().hex())
TRAIN = common_pb2.SPLIT_TRAIN
CIPHER = CacheCipher(CACHE_SECRET)


def record(
    *, numbers: tuple[int, ...] = (0,), key: int = 0, samples: int | None = None, size: int = SHAPE.sample_bytes
) -> bytes:
    """A record that opens, as somebody with the secret writes it, whatever it says."""
    count, nonce = len(numbers), new_nonce()
    fields = struct.pack("<BBHIIH", TRAIN, SHAPE.codec.wire_id, key, count if samples is None else samples, size, 0)
    first, *others = numbered(nonce, 1 + count)
    about = CIPHER.sealed(first, np.array(numbers, "<u4").tobytes() + b"\0\0" * count, fields)
    rows = CIPHER.sealed_rows(others, np.zeros((count, SHAPE.sample_bytes), np.uint8)) if count else []
    return fields + nonce + about + b"".join(rows)


def test_the_records_of_this_test_are_records(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(CIPHER.head + record(numbers=(0, 4)))
    assert read_caches([(tmp_path / "cache", LISTED, CACHE_SECRET)], PLAN)["north"].numbers_N.tolist() == [0, 4]


def test_a_size_that_lies_takes_no_memory(tmp_path: Path) -> None:
    """4 GB by its header, in a file of some bytes; and as much as the header needs to be of this plan."""
    (tmp_path / "cache").write_bytes(CIPHER.head + record(samples=(2**32 - 1) // (6 + SHAPE.sample_bytes)))
    tracemalloc.start()
    try:
        assert list(file_records(SHAPE, tmp_path / "cache", CACHE_SECRET, 4)) == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [record(numbers=(9,)), record(numbers=(5,)), record(numbers=(0,), key=1), record(key=7), record(numbers=()),
     record(numbers=(2**32 - 1,))],
    ids=["of nobody", "of another site", "under another's key", "unknown key", "no sample", "far away"],
)  # fmt: skip
def test_records_that_cannot_be_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(CIPHER.head + content)
    with pytest.raises(CacheError) as refused:
        read_caches([(tmp_path / "cache", LISTED, CACHE_SECRET)], PLAN)
    assert str(tmp_path / "cache") in str(refused.value)


def test_more_than_all_samples_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(CIPHER.head + record())
    os.truncate(tmp_path / "cache", 1 << 40)
    with pytest.raises(UnsoundFileError, match="has 1,099,511,627,776 bytes"):
        read_caches([(tmp_path / "cache", LISTED, CACHE_SECRET)], PLAN)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cache")
    with pytest.raises(OSError, match="no regular file"):
        read_caches([(tmp_path / "cache", LISTED, CACHE_SECRET)], PLAN)


def test_as_many_as_the_plan_allows_are_read(tmp_path: Path) -> None:
    """Each sample in a record of its own, as often as the plan allows."""
    content = b"".join(
        record(numbers=(number,), key=number >= 5) for number in range(9) for _ in range(PLAN.wire.releases)
    )
    (tmp_path / "cache").write_bytes(CIPHER.head + content)
    read = read_caches([(tmp_path / "cache", LISTED, CACHE_SECRET)], PLAN)
    assert [len(read[site].numbers_N) for site in ("north", "south")] == [5, 4]
