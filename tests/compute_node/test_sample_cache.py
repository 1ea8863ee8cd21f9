"""The cache of received codes: what was appended comes back, whatever happened to the process or the file."""

from __future__ import annotations

import os
import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compute_node.feeding.sample_cache import SampleCache
from mple.records.cache_cipher import HEAD_BYTES, CacheError
from mple.records.cache_records import CacheShape
from mple.v1 import common_pb2
from mple.wire.batch import Batch
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named
from tests.support.small_plan import CACHE_SECRET

TRAIN, TEST = common_pb2.SPLIT_TRAIN, common_pb2.SPLIT_TEST
BLOCKS, VALUES = 3, 12
CODECS = ["f32", "f16", "q8"]


def open_cache(
    path: Path,
    codec: str = "q8",
    *,
    train: int = 20,
    test: int = 10,
    blocks: int = BLOCKS,
    values: int = VALUES,
    changed: threading.Condition | None = None,
    secret: bytes = CACHE_SECRET,
) -> SampleCache:
    shape = CacheShape(codec=codec_named(codec), blocks=blocks, values=values, train=train, test=test)
    return SampleCache(path, shape, secret, changed)


def batch_for(numbers: NDArray[np.int64], codec: str, *, labelled: bool = True, version: int = 0) -> Batch:
    """Codes, exponents and labels that tell their sample number and version."""
    how = codec_named(codec)
    codes_BV = (numbers[:, None] + np.arange(VALUES) + 40 * version).astype(how.code_dtype)
    exponents_BK = (numbers[:, None] + np.arange(BLOCKS) + 40 * version).astype(np.uint8)
    exponents_BK = exponents_BK[:, : BLOCKS * how.block_exponents]
    labels = (numbers % 3).astype(np.uint16) if labelled else np.empty(0, np.uint16)
    return Batch(EncodedSamples(codes_BV, exponents_BK), labels)


def append(cache: SampleCache, split: common_pb2.Split, *numbers: int, codec: str = "q8", version: int = 0) -> None:
    wanted = np.array(numbers, np.int64)
    batch = batch_for(wanted, codec, labelled=split == TRAIN, version=version)
    cache.append(split, wanted, batch, key=len(numbers))


def check(cache: SampleCache, split: common_pb2.Split, *numbers: int, codec: str = "q8", version: int = 0) -> None:
    wanted = np.array(numbers, np.int64)
    expected = batch_for(wanted, codec, labelled=split == TRAIN, version=version)
    got = cache.read(split, wanted)
    assert np.array_equal(got.coded.codes_BV, expected.coded.codes_BV)
    assert np.array_equal(got.coded.exponents_BK, expected.coded.exponents_BK)
    if split == TRAIN:
        assert np.array_equal(got.labels_B, expected.labels_B)


@pytest.mark.parametrize("codec", CODECS)
def test_samples_come_back_in_any_order_before_and_after_reopening(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = open_cache(path, codec)
    append(cache, TRAIN, 7, 3, 19, codec=codec)
    append(cache, TEST, 3, 0, codec=codec)
    append(cache, TRAIN, 0, codec=codec)
    for _ in range(2):
        check(cache, TRAIN, 19, 0, 7, 7, 3, codec=codec)
        check(cache, TEST, 0, 3, codec=codec)
        assert np.flatnonzero(cache.held(TRAIN)).tolist() == [0, 3, 7, 19]
        assert np.flatnonzero(cache.held(TEST)).tolist() == [0, 3]
        assert cache.read(TRAIN, np.array([7, 0])).keys_B.tolist() == [3, 1]
        cache = open_cache(path, codec)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache")
    append(cache, TRAIN, 1, 2)
    assert cache.holds(TRAIN, np.array([2, 1]))
    assert not cache.holds(TRAIN, np.array([2, 5]))
    with pytest.raises(KeyError, match="sample 5 is not in the cache"):
        cache.read(TRAIN, np.array([2, 5, 1]))


def test_the_newer_of_two_wins_after_reopening_too(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache")
    append(cache, TRAIN, 1, 2)
    append(cache, TRAIN, 2, version=1)
    check(cache, TRAIN, 2, version=1)
    cache = open_cache(tmp_path / "cache")
    check(cache, TRAIN, 2, version=1)
    check(cache, TRAIN, 1)


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    """A process may be killed within any write: whole records stay, the torn one is asked anew."""
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1, 2)
    whole = path.stat().st_size
    append(cache, TRAIN, 3)
    content = path.read_bytes()
    for size in range(whole, len(content)):
        path.write_bytes(content[:size])
        cache = open_cache(path)
        assert np.flatnonzero(cache.held(TRAIN)).tolist() == [1, 2]
        assert path.stat().st_size == whole
        append(cache, TRAIN, 4)
        cache = open_cache(path)
        check(cache, TRAIN, 1, 2, 4)


def test_a_flipped_bit_is_never_read_as_a_sample(tmp_path: Path) -> None:
    """Every bit of a file of two records: either the file is refused, or what is held is what was written."""
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1, 2)
    append(cache, TRAIN, 3)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            cache = open_cache(path)
        except CacheError:
            continue
        held = np.flatnonzero(cache.held(TRAIN))
        assert not cache.held(TEST).any()
        assert set(held.tolist()) <= {1, 2, 3}
        check(cache, TRAIN, *held.tolist())
        assert cache.read(TRAIN, held).keys_B.tolist() == [{1: 2, 2: 2, 3: 1}[number] for number in held.tolist()]


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04" + bytes(60), b"MPC1" + bytes(60), b"MPC2\x07" + bytes(60), bytes(100), b"PK"]
)
def test_a_foreign_file_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes(content)
    with pytest.raises(CacheError, match="damaged at byte 0"):
        open_cache(path)
    assert path.read_bytes() == content


def test_a_flipped_bit_is_noticed_on_reading_one_sample(tmp_path: Path) -> None:
    """Every bit of what a sample takes, while the file is open; its neighbour is read as before."""
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1, 2)
    content = path.read_bytes()
    for bit in range(8 * (BLOCKS + VALUES + 16)):
        damaged = bytearray(content)
        damaged[len(content) - 1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match="cache is damaged: sample 2 is not as it was written"):
            cache.read(TRAIN, np.array([2]))
        check(cache, TRAIN, 1)


def test_samples_that_changed_places_are_noticed(tmp_path: Path) -> None:
    """Each opens only where it was written: within a record, and from one record to another."""
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1, 2)
    append(cache, TRAIN, 1, 2)
    content, sealed = path.read_bytes(), BLOCKS + VALUES + 16
    record = (len(content) - HEAD_BYTES) // 2
    ends = [len(content), len(content) - sealed, len(content) - record]
    for one, other in ((ends[0], ends[1]), (ends[0], ends[2])):
        swapped = bytearray(content)
        swapped[one - sealed : one], swapped[other - sealed : other] = (
            content[other - sealed : other],
            content[one - sealed : one],
        )
        path.write_bytes(swapped)
        with pytest.raises(CacheError, match="sample 2"):
            cache.read(TRAIN, np.array([2]))


def test_no_sample_lies_in_the_clear_and_none_twice_alike(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1)
    append(cache, TRAIN, 1)
    content, clear = path.read_bytes(), batch_for(np.array([1]), "q8").coded.codes_BV.tobytes()
    assert clear not in content
    row = BLOCKS + VALUES + 16
    assert content[-row:] not in content[:-row]


def test_another_key_is_refused_and_the_file_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    append(open_cache(path), TRAIN, 1)
    content = path.read_bytes()
    with pytest.raises(CacheError, match="does not open with the key in the node's vault") as refused:
        open_cache(path, secret=bytes(32))
    assert "or remove the file" in refused.value.fix
    assert path.read_bytes() == content
    check(open_cache(path), TRAIN, 1)


def test_a_process_that_died_within_the_first_bytes_left_an_empty_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    open_cache(path)
    head = path.read_bytes()
    assert len(head) == HEAD_BYTES
    for size in range(HEAD_BYTES):
        path.write_bytes(head[:size])
        cache = open_cache(path)
        append(cache, TRAIN, 4)
        check(open_cache(path), TRAIN, 4)


def test_another_plans_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 15)
    content = path.read_bytes()
    for changes, reason in [
        ({"codec": "f16"}, "another codec or image shape"),
        ({"codec": "q7"}, "another codec or image shape"),
        ({"values": VALUES + 1}, "another codec or image shape"),
        ({"blocks": BLOCKS + 1}, "another codec or image shape"),
        ({"train": 15}, "samples that the plan does not have"),
    ]:
        with pytest.raises(CacheError, match=reason):
            open_cache(path, **changes)  # type: ignore[arg-type]
        assert path.read_bytes() == content


def test_a_refused_file_is_not_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes(b"something else entirely, longer than a header")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(CacheError):
            open_cache(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: a write beyond it is cut short, the next one refused."""
    path = tmp_path / "cache"
    cache = open_cache(path)
    append(cache, TRAIN, 1)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append(cache, TRAIN, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert np.flatnonzero(cache.held(TRAIN)).tolist() == [1]
    append(cache, TRAIN, 2)
    check(cache, TRAIN, 1, 2)


def test_an_append_wakes_whoever_waits(tmp_path: Path) -> None:
    changed = threading.Condition()
    cache = open_cache(tmp_path / "cache", changed=changed)
    appending = threading.Thread(target=append, args=(cache, TRAIN, 5))
    with changed:
        appending.start()
        assert changed.wait_for(lambda: cache.holds(TRAIN, np.array([5])), timeout=30)
    appending.join()


def test_a_sample_is_read_whole_while_it_is_replaced(tmp_path: Path) -> None:
    """Codes and exponents of one version, never of two."""
    cache, done = open_cache(tmp_path / "cache"), threading.Event()
    append(cache, TRAIN, 0, 1)

    def replace() -> None:
        for count in range(300):
            append(cache, TRAIN, 0, 1, version=count % 2)
        done.set()

    replacing = threading.Thread(target=replace)
    replacing.start()
    while not done.is_set():
        got = cache.read(TRAIN, np.array([1]))
        assert (int(got.coded.exponents_BK[0, 0]), int(got.coded.codes_BV[0, 0])) in {(1, 1), (41, 41)}
    replacing.join()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    open_cache(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o600


def test_threads_append_and_read_at_once(tmp_path: Path) -> None:
    """What `holds` says is there can be read, while four threads append."""
    path, count = tmp_path / "cache", 400
    changed = threading.Condition()
    cache = open_cache(path, "f32", train=count, changed=changed)

    def append_each(own: range) -> None:
        for number in own:
            append(cache, TRAIN, number, codec="f32")

    threads = [threading.Thread(target=append_each, args=(range(first, count, 4),)) for first in range(4)]
    for thread in threads:
        thread.start()
    every = np.arange(count)
    while True:
        held = every[cache.held(TRAIN)]
        check(cache, TRAIN, *held.tolist(), codec="f32")
        if len(held) == count:
            break
        with changed:
            changed.wait(0.01)
    for thread in threads:
        thread.join()
    cache = open_cache(path, "f32", train=count)
    check(cache, TRAIN, *range(count), codec="f32")
