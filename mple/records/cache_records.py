"""Records of the compute node's cache, `cache-RUN.bin`: the codes of one batch each, encrypted.

Behind the file's head (`mple.records.cache_cipher`) come records, all little-endian. A record is

    split u8, codec u8, key u16, samples u32, bytes of a sample u32, wide u16 | nonce 12 | sealed: numbers u32[B], of
    the training split only classes u16[B] or labels u8[B, L] | B times, each sealed by itself: exponents and codes

What is sealed is 16 bytes longer. Of a record the first is bound to its first fourteen bytes, so that none of them can
be changed either.

Codes of a transform codec are 16 bits wide, and few of them need more than eight: of each block so many leading ones as
`wide` says take two bytes, and lie first, those of all blocks; the others take one. That is half the bytes and the
shortest to read. Entropy coding them would take a quarter of those, and ten times as long to undo.

Legend: B samples of a record, L labels, K blocks, V morphed values, d coefficients of a block, S bytes of one sample. A
*number* counts a split's samples over all sites of the plan; a *key* is a number that the node's list of keys gives.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.disk.bounded import open_regular
from mple.plan import RunPlan
from mple.records.cache_cipher import HEAD_BYTES, NONCE_BYTES, TAG_BYTES, CacheCipher, CacheError, new_nonce, numbered
from mple.v1 import common_pb2
from mple.wire.batch import NO_LABELS, Batch
from mple.wire.codec import Codec, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.label_form import CLASS_NUMBERS, LabelForm, WireLabels, label_bytes

_FIELDS = struct.Struct("<BBHIIH")
_WIDE = 8
"""So many leading codes of a block are kept in two bytes where those behind fit one; else all are."""
_HEADER_BYTES = _FIELDS.size + NONCE_BYTES


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One batch."""

    split: common_pb2.Split
    key: int
    numbers_B: NDArray[np.int64]
    labels_B: WireLabels
    """Empty but for the training split."""
    rows_BS: NDArray[np.uint8]
    """Exponents and codes of each sample, codes as wide as the codec has them."""
    wide: int
    """See the head of this file."""
    sealed_bytes: int
    """What one sample takes in the file; they are the record's last."""
    content: bytes
    """The whole record, as it lies in the file."""

    @property
    def nonces(self) -> list[bytes]:
        """Of each sample."""
        return list(numbered(self.content[_FIELDS.size : _HEADER_BYTES], 1 + len(self.numbers_B)))[1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheShape:
    """What all records of a plan have in common."""

    codec: Codec
    blocks: int
    values: int
    """Of one sample at most: its morphed values, or where the codec has a basis so many coefficients as a key has."""
    train: int
    """Training samples of all sites."""
    test: int
    val: int = 0
    labels: LabelForm = CLASS_NUMBERS

    @classmethod
    def of(cls, plan: RunPlan) -> CacheShape:
        """The shape of a plan's records."""
        return cls(
            codec=codec_named(plan.wire.codec),
            blocks=plan.geometry.blocks,
            values=plan.geometry.morphed_elements,
            train=sum(site.train_images for site in plan.sites),
            val=sum(site.val_images for site in plan.sites),
            test=sum(site.test_images for site in plan.sites),
            labels=plan.label_form,
        )

    @property
    def sample_bytes(self) -> int:
        """Of one sample's exponents and codes, at most."""
        return self.codec.sample_bytes(blocks=self.blocks, values=self.values)

    def allows(self, sample_bytes: int, wide: int) -> bool:
        """Whether a sample may take so many: where the codec has a basis, as the key's basis has columns."""
        if not self.codec.needs_coding:
            return sample_bytes == self.sample_bytes and not wide
        columns, left = divmod(sample_bytes, self.blocks)
        return not left and 1 <= columns - wide <= self.values // self.blocks and wide <= columns - wide

    def narrowed(self, coded: EncodedSamples) -> tuple[NDArray[np.uint8], int]:
        """The rows of samples as they are kept, and how many codes of a block are wide in them."""
        if not self.codec.needs_coding:
            codes = np.ascontiguousarray(coded.codes_BV).view(np.uint8)
            return np.hstack([coded.exponents_BK, codes]), 0
        codes_BKd = coded.codes_BV.reshape(len(coded.codes_BV), self.blocks, -1)
        rest_BKd = codes_BKd[:, :, _WIDE:]
        narrow = not rest_BKd.size or bool(-128 <= rest_BKd.min() and rest_BKd.max() <= 127)
        wide = min(_WIDE, codes_BKd.shape[2]) if narrow else codes_BKd.shape[2]
        parts = codes_BKd[:, :, :wide].astype("<i2"), codes_BKd[:, :, wide:].astype(np.int8)
        return np.hstack([part.reshape(len(codes_BKd), -1).view(np.uint8) for part in parts]), wide

    def widened(self, rows_BS: NDArray[np.uint8], wide: int) -> NDArray[np.uint8]:
        """Rows as the codec has them, of those that are kept."""
        if not self.codec.needs_coding:
            return rows_BS
        samples, columns = len(rows_BS), rows_BS.shape[1] // self.blocks - wide
        codes_BKd: NDArray[np.int16] = np.empty((samples, self.blocks, columns), "<i2")
        first, rest = np.split(rows_BS, [2 * self.blocks * wide], axis=1)
        codes_BKd[:, :, :wide] = np.ascontiguousarray(first).view("<i2").reshape(samples, self.blocks, wide)
        codes_BKd[:, :, wide:] = rest.view(np.int8).reshape(samples, self.blocks, columns - wide)
        return codes_BKd.reshape(samples, -1).view(np.uint8)

    @property
    def sizes(self) -> dict[common_pb2.Split, int]:
        """Samples of all sites by split."""
        return {
            common_pb2.SPLIT_TRAIN: self.train,
            common_pb2.SPLIT_VAL: self.val,
            common_pb2.SPLIT_TEST: self.test,
        }

    def coded(self, rows_BS: NDArray[np.uint8]) -> EncodedSamples:
        """Samples out of their rows."""
        exponents = self.blocks if self.codec.block_exponents else 0
        exponents_BK, codes = np.split(rows_BS, [exponents], axis=1)
        return EncodedSamples(np.ascontiguousarray(codes).view(self.codec.code_dtype), exponents_BK)


def pack_record(
    cipher: CacheCipher,
    shape: CacheShape,
    split: common_pb2.Split,
    numbers_B: NDArray[np.int64],
    batch: Batch,
    key: int,
) -> CacheRecord:
    """The record of a checked batch."""
    rows_BS, wide = shape.narrowed(batch.coded)
    fields = _FIELDS.pack(split, shape.codec.wire_id, key, *rows_BS.shape, wide)
    nonce, (first, *others) = (drawn := new_nonce()), numbered(drawn, 1 + len(rows_BS))
    about = cipher.sealed(first, numbers_B.astype("<u4").tobytes() + label_bytes(batch.labels_B), fields)
    content = b"".join((fields, nonce, about, *cipher.sealed_rows(others, rows_BS)))
    sealed_bytes = int(rows_BS.shape[1]) + TAG_BYTES
    if wide:
        rows_BS = np.ascontiguousarray(batch.coded.codes_BV).view(np.uint8)
    return CacheRecord(split, key, numbers_B, batch.labels_B, rows_BS, wide, sealed_bytes, content)


def records(
    shape: CacheShape, path: Path, cipher: CacheCipher, file: int, start: int, end: int
) -> Iterator[CacheRecord]:
    """The whole records between two places, up to the first that is torn or damaged.

    `file` is a descriptor that can be read, `path` its name for errors; a record begins at `start`.

    Raises CacheError: a record is one of another plan.
    """
    at = start
    while at + _HEADER_BYTES <= end:
        header = os.pread(file, _HEADER_BYTES, at)
        split, codec_id, key, samples, sample_bytes, wide = _FIELDS.unpack_from(header)
        labelled = split == common_pb2.SPLIT_TRAIN
        about_bytes = samples * (4 + (shape.labels.sample_bytes if labelled else 0)) + TAG_BYTES
        body_bytes = about_bytes + samples * (sample_bytes + TAG_BYTES)
        if body_bytes > end - at - _HEADER_BYTES:
            return  # torn; memory for it is not even asked for
        body = os.pread(file, body_bytes, at + _HEADER_BYTES)
        first, *others = numbered(header[_FIELDS.size :], 1 + samples)
        about = cipher.opened(first, body[:about_bytes], header[: _FIELDS.size])
        if len(body) < body_bytes or about is None:
            return
        if split not in shape.sizes or not samples:
            raise CacheError(f"{path} is damaged at byte {at}")
        if codec_id != shape.codec.wire_id or not shape.allows(sample_bytes, wide):
            raise CacheError(f"{path} was written under another codec or image shape")
        rows_BS = _opened_rows(cipher, others, memoryview(body)[about_bytes:], sample_bytes)
        if rows_BS is None:
            return
        numbers_B = np.frombuffer(about, "<u4", samples).astype(np.int64)
        if numbers_B.max() >= shape.sizes[split]:
            raise CacheError(f"{path} holds samples that the plan does not have")
        labels_B = shape.labels.view(about, samples, 4 * samples) if labelled else NO_LABELS
        rows_BS = shape.widened(rows_BS, wide)
        yield CacheRecord(split, key, numbers_B, labels_B, rows_BS, wide, sample_bytes + TAG_BYTES, header + body)
        at += _HEADER_BYTES + body_bytes


def _opened_rows(
    cipher: CacheCipher, nonces: list[bytes], sealed: memoryview, sample_bytes: int
) -> NDArray[np.uint8] | None:
    """None where one of them is damaged."""
    rows, step = [], sample_bytes + TAG_BYTES
    for number, nonce in enumerate(nonces):
        row = cipher.opened(nonce, sealed[number * step : (number + 1) * step])
        if row is None:
            return None
        rows.append(row)
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(nonces), sample_bytes)


def file_records(shape: CacheShape, path: Path, secret: bytes, releases: int) -> Iterator[CacheRecord]:
    """All records of a file, as `records`; `releases` is how often a sample may come.

    Raises CacheError: as `records` and `CacheCipher.of`; OSError: the file can't be read; UnsoundFileError: it is
    larger than all samples are, each sent as often and in a message of its own.
    """
    sample_bytes = 4 + shape.labels.sample_bytes + shape.sample_bytes + 2 * TAG_BYTES
    most_bytes = HEAD_BYTES + releases * sum(shape.sizes.values()) * (_HEADER_BYTES + sample_bytes)
    with open_regular(path, most_bytes) as file:
        number, size = file.fileno(), os.fstat(file.fileno()).st_size
        head = os.pread(number, HEAD_BYTES, 0)
        if not CacheCipher.begun(head):
            yield from records(shape, path, CacheCipher.of(secret, head, path), number, HEAD_BYTES, size)
