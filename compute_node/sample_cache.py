"""The received codes of a run, in one append-only file, so that no sample crosses the wire twice.

A record holds one batch: fields, CRC-32C of all the rest, sample numbers, labels, scales, codes, all little-endian. A
torn tail, as a killed process leaves it, is cut off when the file is opened again; what it held is asked for anew.

Legend: B samples, V morphed values of one sample. A *number* counts a split's samples over all sites of the plan.
"""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mple.v1 import common_pb2
from mple.wire import Batch, Codec, EncodedSamples

_FIELDS = struct.Struct("<4sBBHII")  # magic, split, codec, key, samples, body bytes
_CRC = struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CRC.size
_MAGIC = b"MPC1"


class CacheError(ValueError):
    """The cache file belongs to another plan or can't be used."""


@dataclass(frozen=True, slots=True)
class CachedSamples:
    """Samples as they came, with the number of the key that each was morphed under."""

    coded: EncodedSamples
    labels_B: NDArray[np.int64]
    keys_B: NDArray[np.int64]


class _Index:
    def __init__(self, samples: int) -> None:
        self.offset = np.full(samples, -1, np.int64)
        self.scale = np.ones(samples, np.float32)
        self.label = np.zeros(samples, np.int64)
        self.key = np.zeros(samples, np.int64)


class SampleCache:
    """Codes on disk, an index of fixed size in memory. Threads may append and read at the same time."""

    def __init__(self, path: Path, *, codec: Codec, values: int, train: int, test: int) -> None:
        """Open or make the file; a torn last record is cut off.

        Args:
            path: The file.
            codec: The plan's codec.
            values: Morphed values of one sample.
            train: Training samples of all sites.
            test: Test samples of all sites.

        Raises:
            CacheError: A whole record contradicts codec, sizes or numbers: the file is another plan's.
        """
        self._codec, self._values = codec, values
        self._code_bytes = values * codec.code_dtype.itemsize
        self._index = {common_pb2.SPLIT_TRAIN: _Index(train), common_pb2.SPLIT_TEST: _Index(test)}
        self._changed = threading.Condition()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._end = 0
        try:
            self._scan(path)
        except CacheError:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file)
        os.close(self._file)

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
            OSError: The disk refused; the file ends as before.
        """
        body = b"".join(
            (
                numbers.astype("<u4").tobytes(),
                batch.labels_B.astype("<u2").tobytes(),
                batch.coded.scales_B.astype("<f4").tobytes(),
                batch.coded.codes_BV.tobytes(),
            )
        )
        fields = _FIELDS.pack(_MAGIC, split, self._codec.wire_id, key, len(numbers), len(body))
        record = fields + _CRC.pack(_crc32c(fields, body)) + body
        with self._changed:
            self._write(record)
            self._end += len(record)
            self._enter(split, numbers, batch, key, self._end)
            self._changed.notify_all()

    def read(self, split: common_pb2.Split, numbers: NDArray[np.int64]) -> CachedSamples:
        """The samples of these numbers, in this order.

        Raises:
            KeyError: One of them is not here.
        """
        index = self._index[split]
        with self._changed:  # a sample may be replaced meanwhile: its codes, scale, label and key belong together
            offsets, labels_B, keys_B = index.offset[numbers], index.label[numbers], index.key[numbers]
            scales_B = index.scale[numbers] if self._codec.scaled else np.empty(0, np.float32)
        if (offsets < 0).any():
            raise KeyError(f"sample {int(numbers[int(np.argmin(offsets))])} is not in the cache")
        codes = bytearray(len(numbers) * self._code_bytes)
        view = memoryview(codes)
        for i, offset in enumerate(offsets.tolist()):
            piece = view[i * self._code_bytes : (i + 1) * self._code_bytes]
            if os.preadv(self._file, [piece], offset) != self._code_bytes:
                raise CacheError(f"the cache file ends within sample {int(numbers[i])}")
        codes_BV = np.frombuffer(codes, self._codec.code_dtype).reshape(len(numbers), self._values)
        return CachedSamples(EncodedSamples(scales_B, codes_BV), labels_B, keys_B)

    def _write(self, record: bytes) -> None:
        view = memoryview(record)
        position = self._end
        try:
            while view:
                written = os.pwrite(self._file, view, position)
                view, position = view[written:], position + written
        except OSError:
            os.ftruncate(self._file, self._end)
            raise

    def _enter(
        self, split: common_pb2.Split, numbers: NDArray[np.int64], batch: Batch, key: int, record_end: int
    ) -> None:
        index = self._index[split]
        codes_start = record_end - len(numbers) * self._code_bytes
        if self._codec.scaled:
            index.scale[numbers] = batch.coded.scales_B
        if batch.labels_B.size:
            index.label[numbers] = batch.labels_B
        index.key[numbers] = key
        index.offset[numbers] = codes_start + np.arange(len(numbers)) * self._code_bytes

    def _scan(self, path: Path) -> None:
        size = os.fstat(self._file).st_size
        while self._end + _HEADER_BYTES <= size:
            header = os.pread(self._file, _HEADER_BYTES, self._end)
            fields = header[: _FIELDS.size]
            magic, split, codec_id, key, samples, body_bytes = _FIELDS.unpack(fields)
            if magic != _MAGIC or split not in self._index:
                raise CacheError(f"{path} is damaged at byte {self._end}; remove it and the samples are asked anew")
            labelled = split == common_pb2.SPLIT_TRAIN
            fixed = 4 + 2 * labelled + (4 if self._codec.scaled else 0) + self._code_bytes
            if codec_id != self._codec.wire_id or body_bytes != samples * fixed:
                raise CacheError(f"{path} was written under another codec or image shape; remove it")
            body = os.pread(self._file, body_bytes, self._end + _HEADER_BYTES)
            if len(body) < body_bytes or _CRC.pack(_crc32c(fields, body)) != header[_FIELDS.size :]:
                break
            numbers = np.frombuffer(body, "<u4", samples).astype(np.int64)
            if numbers.size and numbers.max() >= len(self._index[split].offset):
                raise CacheError(f"{path} holds samples that the plan does not have; remove it")
            at = 4 * samples
            labels = np.frombuffer(body, "<u2", samples * labelled, at)
            at += labels.nbytes
            scales = np.frombuffer(body, "<f4", samples if self._codec.scaled else 0, at)
            batch = Batch(EncodedSamples(scales, np.empty((samples, 0), self._codec.code_dtype)), labels)
            self._end += _HEADER_BYTES + body_bytes
            self._enter(split, numbers, batch, key, self._end)
        os.ftruncate(self._file, self._end)


def _crc32c(fields: bytes, body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(fields), body))
