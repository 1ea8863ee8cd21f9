"""The received codes of a run, in one append-only file, so that no sample crosses the wire twice.

A record holds one batch: fields, CRC-32C of all the rest, sample numbers, labels, then each sample's exponents and
codes, all little-endian. A torn tail, as a killed process leaves it, is cut off when the file is opened again; what it
held is asked for anew. What was made under a revoked key is erased by writing the file anew without it.

Legend: B samples, K blocks, V morphed values of one sample. A *number* counts a split's samples over all sites of the
plan.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from compute_node.cache_file import CacheFile, Replacement
from compute_node.layers.layer_bank import ErasedKeyError
from mple.v1 import common_pb2
from mple.wire.batch import Batch
from mple.wire.codec import Codec, EncodedSamples

_FIELDS = struct.Struct("<4sBBHII")  # magic, split, codec, key, samples, body bytes
_CRC = struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CRC.size
_MAGIC = b"MPC2"


class CacheError(ValueError):
    """The cache file belongs to another plan or can't be used."""


@dataclass(frozen=True, slots=True)
class CachedSamples:
    """Samples as they came, with the number of the key that each was morphed under."""

    coded: EncodedSamples
    labels_B: NDArray[np.int64]
    keys_B: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Erased:
    """What `SampleCache.erase` has removed."""

    samples: int
    """Samples in the records that were erased; one that was stored twice counts twice."""
    lost: Mapping[common_pb2.Split, NDArray[np.int64]]
    """Numbers that the cache held before and holds no more, by split."""


@dataclass(frozen=True, slots=True)
class _Record:
    split: common_pb2.Split
    key: int
    numbers: NDArray[np.int64]
    labels_B: NDArray[np.uint16]
    """Empty for the test split."""
    content: bytes
    """The whole record."""


class _Index:
    def __init__(self, samples: int) -> None:
        self.offset = np.full(samples, -1, np.int64)
        self.label = np.zeros(samples, np.int64)
        self.key = np.zeros(samples, np.int64)


class SampleCache:
    """Codes on disk, an index of fixed size in memory. Threads may append and read at the same time."""

    def __init__(self, path: Path, *, codec: Codec, blocks: int, values: int, train: int, test: int) -> None:
        """Open or make the file; a torn last record is cut off.

        Args:
            path: The file.
            codec: The plan's codec.
            blocks: Blocks of one sample.
            values: Morphed values of one sample.
            train: Training samples of all sites.
            test: Test samples of all sites.

        Raises:
            CacheError: A whole record contradicts codec, sizes or numbers: the file is another plan's.
        """
        self._path, self._codec = path, codec
        self._exponents = blocks if codec.block_exponents else 0
        self._sample_bytes = codec.sample_bytes(blocks=blocks, values=values)
        self._sizes = {common_pb2.SPLIT_TRAIN: train, common_pb2.SPLIT_TEST: test}
        self._index = self._empty_index()
        self._samples_under: Counter[int] = Counter()
        self._erased: set[int] = set()
        self._changed = threading.Condition()
        Replacement.remove_left(path)
        self._file = CacheFile(path)
        self._end = 0
        try:
            for record in self._records(self._file, 0, self._file.size):
                self._end += len(record.content)
                self._enter(self._index, record, self._end)
                self._samples_under[record.key] += len(record.numbers)
        except CacheError:
            self._file.close()
            raise
        os.ftruncate(self._file.number, self._end)

    @property
    def changed(self) -> threading.Condition:
        """Notified after each append."""
        return self._changed

    def held(self, split: common_pb2.Split) -> NDArray[np.bool_]:
        """Which numbers of a split are here."""
        return self._index[split].offset >= 0

    def holds(self, split: common_pb2.Split, numbers: NDArray[np.int64]) -> bool:
        """Whether all of these are here."""
        return bool((self._index[split].offset[numbers] >= 0).all())

    def append(self, split: common_pb2.Split, numbers: NDArray[np.int64], batch: Batch, key: int) -> None:
        """Keep a checked batch; a number that is already here is replaced by the newer codes.

        Raises:
            ErasedKeyError: The key has been erased.
            OSError: The disk refused; the file ends as before.
        """
        body = b"".join(
            (
                numbers.astype("<u4").tobytes(),
                batch.labels_B.astype("<u2").tobytes(),
                np.hstack([batch.coded.exponents_BK, _as_bytes(batch.coded.codes_BV)]).tobytes(),
            )
        )
        fields = _FIELDS.pack(_MAGIC, split, self._codec.wire_id, key, len(numbers), len(body))
        record = _Record(split, key, numbers, batch.labels_B, fields + _CRC.pack(_crc32c(fields, body)) + body)
        with self._changed:
            if key in self._erased:
                raise ErasedKeyError(f"key number {key} is revoked")
            try:
                _write(self._file, self._end, record.content)
            except OSError:
                os.ftruncate(self._file.number, self._end)
                raise
            self._end += len(record.content)
            self._enter(self._index, record, self._end)
            self._samples_under[key] += len(numbers)
            self._changed.notify_all()

    def read(self, split: common_pb2.Split, numbers: NDArray[np.int64]) -> CachedSamples:
        """The samples of these numbers, in this order.

        Raises:
            KeyError: One of them is not here.
        """
        with self._changed:  # a sample may be replaced meanwhile: its codes, label and key belong together
            index, file = self._index[split], self._file
            offsets, labels_B, keys_B = index.offset[numbers], index.label[numbers], index.key[numbers]
        if (offsets < 0).any():
            raise KeyError(f"sample {int(numbers[int(np.argmin(offsets))])} is not in the cache")
        rows: NDArray[np.uint8] = np.empty((len(numbers), self._sample_bytes), np.uint8)
        for i, offset in enumerate(offsets.tolist()):
            if os.preadv(file.number, [memoryview(rows[i])], offset) != self._sample_bytes:
                raise CacheError(f"the cache file ends within sample {int(numbers[i])}")
        exponents_BK, codes = np.split(rows, [self._exponents], axis=1)
        coded = EncodedSamples(np.ascontiguousarray(codes).view(self._codec.code_dtype), exponents_BK)
        return CachedSamples(coded, labels_B, keys_B)

    def count(self, key: int) -> int:
        """Samples in all records under a key, one that is stored twice counted twice."""
        with self._changed:
            return self._samples_under[key]

    def erase(self, key: int) -> Erased:
        """Write the file anew without what was made under a key, and take nothing more under it.

        Samples can be read and others appended meanwhile. The old file is unlinked, not overwritten.

        Guarantees: a process that dies within it leaves the old file or the new one, whole.

        Raises:
            OSError: The disk refused; the file is as before, and nothing more is taken under the key.
        """
        with self._changed:
            self._erased.add(key)
            copied_to = self._end
            if not self._samples_under[key]:
                return Erased(0, {split: np.empty(0, np.int64) for split in self._sizes})
        new = Replacement(self._path)
        index = self._empty_index()
        try:
            written, samples = self._copy_without(key, new, 0, index, 0, copied_to)
            with self._changed:
                written, more = self._copy_without(key, new, written, index, copied_to, self._end)
                new.take_place()
                before, self._index = self._index, index
                self._file, self._end = new, written
                del self._samples_under[key]
                self._changed.notify_all()
        except BaseException:
            new.discard()
            raise
        lost = {
            split: np.flatnonzero((before[split].offset >= 0) & (index[split].offset < 0)).astype(np.int64)
            for split in index
        }
        return Erased(samples + more, lost)

    def _copy_without(
        self, key: int, new: CacheFile, written: int, index: dict[common_pb2.Split, _Index], start: int, end: int
    ) -> tuple[int, int]:
        """Where the new file ends, and how many samples were left out."""
        left_out = 0
        for record in self._records(self._file, start, end):
            if record.key == key:
                left_out += len(record.numbers)
                continue
            _write(new, written, record.content)
            written += len(record.content)
            self._enter(index, record, written)
        return written, left_out

    def _empty_index(self) -> dict[common_pb2.Split, _Index]:
        return {split: _Index(samples) for split, samples in self._sizes.items()}

    def _enter(self, indexes: dict[common_pb2.Split, _Index], record: _Record, record_end: int) -> None:
        index, numbers = indexes[record.split], record.numbers
        samples_start = record_end - len(numbers) * self._sample_bytes
        if record.labels_B.size:
            index.label[numbers] = record.labels_B
        index.key[numbers] = record.key
        index.offset[numbers] = samples_start + np.arange(len(numbers)) * self._sample_bytes

    def _records(self, file: CacheFile, at: int, end: int) -> Iterator[_Record]:
        """The whole records between two places, up to the first that is torn or damaged."""
        path = self._path
        while at + _HEADER_BYTES <= end:
            header = os.pread(file.number, _HEADER_BYTES, at)
            fields = header[: _FIELDS.size]
            magic, split, codec_id, key, samples, body_bytes = _FIELDS.unpack(fields)
            if magic != _MAGIC or split not in self._sizes:
                raise CacheError(f"{path} is damaged at byte {at}; remove it and the samples are asked anew")
            labelled = split == common_pb2.SPLIT_TRAIN
            if codec_id != self._codec.wire_id or body_bytes != samples * (4 + 2 * labelled + self._sample_bytes):
                raise CacheError(f"{path} was written under another codec or image shape; remove it")
            body = os.pread(file.number, body_bytes, at + _HEADER_BYTES)
            if len(body) < body_bytes or _CRC.pack(_crc32c(fields, body)) != header[_FIELDS.size :]:
                return
            numbers = np.frombuffer(body, "<u4", samples).astype(np.int64)
            if numbers.size and numbers.max() >= self._sizes[split]:
                raise CacheError(f"{path} holds samples that the plan does not have; remove it")
            labels_B = np.frombuffer(body, "<u2", samples * labelled, 4 * samples)
            yield _Record(split, key, numbers, labels_B, header + body)
            at += _HEADER_BYTES + body_bytes


def _as_bytes(codes_BV: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes_BV).view(np.uint8)


def _write(file: CacheFile, position: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file.number, view, position)
        view, position = view[written:], position + written


def _crc32c(fields: bytes, body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(fields), body))
