"""Erasing what was made under one key: nothing of it stays in the file, and all the rest can be read meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import ErasedKeyError
from mple.records.cache_records import CacheShape
from mple.v1 import common_pb2
from mple.wire.batch import Batch
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named
from tests.support.small_plan import CACHE_SECRET

TRAIN, VAL, TEST = common_pb2.SPLIT_TRAIN, common_pb2.SPLIT_VAL, common_pb2.SPLIT_TEST
BLOCKS, VALUES = 4, 64
CODEC = codec_named("q8")
OLD, OTHER, NEW = 0, 1, 2


def open_cache(path: Path) -> SampleCache:
    return SampleCache(path, CacheShape(codec=CODEC, blocks=BLOCKS, values=VALUES, train=200, test=50), CACHE_SECRET)


def mark(number: int, key: int) -> int:
    """The value that all codes of a sample have."""
    return (7 * number + 33 * key) % 100 + 1


def exponents(numbers: NDArray[np.int64], key: int) -> NDArray[np.uint8]:
    return (numbers[:, None] % 20 + 20 * key + np.arange(BLOCKS)).astype(np.uint8)


def append(cache: SampleCache, split: common_pb2.Split, key: int, *numbers: int) -> None:
    wanted = np.array(numbers, np.int64)
    codes_BV = np.array([[mark(number, key)] * VALUES for number in numbers], np.int8).reshape(-1, VALUES)
    labels = (wanted % 3).astype(np.uint16) if split == TRAIN else np.empty(0, np.uint16)
    exponents_BK = exponents(wanted, key)
    cache.append(split, wanted, Batch(EncodedSamples(codes_BV, exponents_BK), labels), key)


def check(cache: SampleCache, split: common_pb2.Split, key: int, *numbers: int) -> None:
    wanted = np.array(numbers, np.int64)
    got = cache.read(split, wanted)
    assert np.array_equal(got.coded.exponents_BK, exponents(wanted, key))
    for row, number in enumerate(numbers):
        assert got.keys_B[row] == key
        assert set(got.coded.codes_BV[row].tolist()) == {mark(number, key)}
        assert split == TEST or got.labels_B[row] == number % 3


def held(cache: SampleCache, split: common_pb2.Split) -> list[int]:
    return np.flatnonzero(cache.held(split)).tolist()


def filled(path: Path) -> SampleCache:
    cache = open_cache(path)
    append(cache, TRAIN, OLD, 0, 1, 2)
    append(cache, TRAIN, OTHER, 100, 101)
    append(cache, TEST, OLD, 5)
    append(cache, TRAIN, OLD, 2, 3)
    append(cache, TRAIN, NEW, 3)
    append(cache, TEST, OTHER, 6)
    return cache


def test_a_keys_samples_go_and_all_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = filled(path)
    assert [cache.count(key) for key in (OLD, OTHER, NEW)] == [6, 3, 1]
    size = path.stat().st_size
    erased = cache.erase(OLD)
    assert erased.samples == 6, "sample 2 was stored twice"
    assert {split: numbers.tolist() for split, numbers in erased.lost.items()} == {TRAIN: [0, 1, 2], VAL: [], TEST: [5]}
    for _ in range(2):
        assert (held(cache, TRAIN), held(cache, TEST)) == ([3, 100, 101], [6])
        check(cache, TRAIN, OTHER, 101, 100)
        check(cache, TRAIN, NEW, 3)
        check(cache, TEST, OTHER, 6)
        assert [cache.count(key) for key in (OLD, OTHER, NEW)] == [0, 3, 1]
        cache = open_cache(path)
    assert path.stat().st_size < size
    codes = path.read_bytes()
    assert not any(bytes([mark(number, OLD)] * VALUES) in codes for number in (0, 1, 2, 3, 5))
    assert os.listdir(tmp_path) == ["cache"]


def test_erasing_again_changes_nothing(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    cache.erase(OLD)
    again = cache.erase(OLD)
    assert (again.samples, [numbers.size for numbers in again.lost.values()]) == (0, [0, 0, 0])


def test_nothing_more_is_taken_under_an_erased_key_and_others_are(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    cache.erase(OLD)
    with pytest.raises(ErasedKeyError, match="key number 0 is revoked"):
        append(cache, TRAIN, OLD, 0)
    append(cache, TRAIN, NEW, 0, 1, 2)
    cache = open_cache(tmp_path / "cache")
    check(cache, TRAIN, NEW, 0, 1, 2)


def test_readers_and_writers_go_on_while_a_key_is_erased(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache")
    for low in range(0, 100, 5):
        append(cache, TRAIN, OLD, *range(low, low + 5))
        append(cache, TRAIN, OTHER, *range(100 + low, 105 + low))
    stop, faults = threading.Event(), []

    def keep(work: object) -> None:
        try:
            while not stop.is_set():
                work()  # type: ignore[operator]
        except Exception as fault:
            faults.append(fault)

    def read_others() -> None:
        check(cache, TRAIN, OTHER, *range(100, 200, 7))

    def read_erased() -> None:
        numbers: NDArray[np.int64] = np.arange(0, 100, 9, dtype=np.int64)
        try:
            got = cache.read(TRAIN, numbers)
        except KeyError:
            return
        for row, number in enumerate(numbers.tolist()):
            assert set(got.coded.codes_BV[row].tolist()) == {mark(number, int(got.keys_B[row]))}

    def write() -> None:
        append(cache, TEST, NEW, *range(50))

    threads = [threading.Thread(target=keep, args=(work,)) for work in (read_others, read_erased, write)]
    for thread in threads:
        thread.start()
    erased = cache.erase(OLD)
    append(cache, TRAIN, NEW, *range(100))
    cache.erase(OTHER + 7)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults, faults
    assert erased.samples == 100
    check(cache, TRAIN, NEW, *range(100))
    check(cache, TRAIN, OTHER, *range(100, 200))
    check(cache, TEST, NEW, *range(50))


def test_no_file_stays_open_behind_an_erasure(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cache = filled(tmp_path / "cache")
    cache.erase(OLD)
    cache.erase(OTHER)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del cache
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_killed_while_erasing_leaves_a_whole_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = open_cache(path)
    for low in range(0, 100, 5):
        append(cache, TRAIN, OLD, *range(low, low + 5))
        append(cache, TRAIN, OTHER, *range(100 + low, 105 + low))
    child = os.fork()
    if child == 0:
        doomed = open_cache(path)
        threading.Timer(0.001, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        while True:
            doomed.erase(OLD)
            append(doomed, TEST, NEW, 1)
    os.waitpid(child, 0)
    cache = open_cache(path)
    check(cache, TRAIN, OTHER, *range(100, 200))
    assert cache.count(OLD) in (0, 100)
    cache.erase(OLD)
    assert held(cache, TRAIN) == list(range(100, 200))
    assert os.listdir(tmp_path) == ["cache"]
