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
from mple.records.cache_records import CacheError, CacheShape, _crc, file_records
from mple.records.layer_list import LayerList
from mple.v1 import common_pb2
from tests.support.small_plan import small_plan

PLAN = small_plan()
SHAPE = CacheShape.of(PLAN)
LISTED = LayerList(PLAN.sha256().hex())
TRAIN = common_pb2.SPLIT_TRAIN


def record(
    *, numbers: tuple[int, ...] = (0,), key: int = 0, samples: int | None = None, size: int | None = None
) -> bytes:
    """A record with the checksum that fits, whatever it says."""
    count = len(numbers)
    body = np.array(numbers, "<u4").tobytes() + b"\0\0" * count + b"\0" * SHAPE.sample_bytes * count
    said = (count if samples is None else samples), (len(body) if size is None else size)
    fields = struct.pack("<4sBBHII", b"MPC2", TRAIN, SHAPE.codec.wire_id, key, *said)
    return fields + _crc(fields, body) + body


def test_the_records_of_this_test_are_records(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(record(numbers=(0, 4)))
    assert read_caches([(tmp_path / "cache", LISTED)], PLAN)["north"].numbers_N.tolist() == [0, 4]


def test_a_size_that_lies_takes_no_memory(tmp_path: Path) -> None:
    """4 GB by its header, in a file of some bytes; and as much as the header needs to be of this plan."""
    sample = 6 + SHAPE.sample_bytes
    samples = (2**32 - 1) // sample
    (tmp_path / "cache").write_bytes(record(samples=samples, size=samples * sample))
    tracemalloc.start()
    try:
        assert list(file_records(SHAPE, tmp_path / "cache", 4)) == []
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
    (tmp_path / "cache").write_bytes(content)
    with pytest.raises(CacheError) as refused:
        read_caches([(tmp_path / "cache", LISTED)], PLAN)
    assert str(tmp_path / "cache") in str(refused.value)


def test_more_than_all_samples_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(record())
    os.truncate(tmp_path / "cache", 1 << 40)
    with pytest.raises(UnsoundFileError, match="has 1,099,511,627,776 bytes"):
        read_caches([(tmp_path / "cache", LISTED)], PLAN)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cache")
    with pytest.raises(OSError, match="no regular file"):
        read_caches([(tmp_path / "cache", LISTED)], PLAN)


def test_as_many_as_the_plan_allows_are_read(tmp_path: Path) -> None:
    """Each sample in a record of its own, as often as the plan allows."""
    content = b"".join(
        record(numbers=(number,), key=number >= 5) for number in range(9) for _ in range(PLAN.wire.releases)
    )
    (tmp_path / "cache").write_bytes(content)
    read = read_caches([(tmp_path / "cache", LISTED)], PLAN)
    assert [len(read[site].numbers_N) for site in ("north", "south")] == [5, 4]
