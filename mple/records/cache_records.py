"""Records of the compute node's cache, `cache-RUN.bin`: the codes of one batch each, as they crossed the link.

A record is a header, its CRC-32C, and a body, all little-endian:

    "MPC2", split u8, codec u8, key u16, samples u32, body bytes u32 | CRC u32, of header and body
    numbers u32[B] | of the training split only: classes u16[B] or labels u8[B, L] | B times the exponents and codes

Legend: B samples of a record, L labels, K blocks, V morphed values, S bytes of one sample. A *number* counts a split's
samples over all sites of the plan; a *key* is a number that the node's list of keys gives.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mple.disk.bounded import open_regular
from mple.disk.damage import DamagedError
from mple.exit_codes import ExitCode, ExitError
from mple.plan import RunPlan
from mple.v1 import common_pb2
from mple.wire.batch import NO_LABELS, Batch
from mple.wire.codec import Codec, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.label_form import CLASS_NUMBERS, LabelForm, WireLabels, label_bytes

_FIELDS = struct.Struct("<4sBBHII")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CRC.size
_MAGIC = b"MPC2"


class CacheError(DamagedError):
    """The cache file belongs to another plan or can't be used; its node stops, and no run ends by it."""

    def __init__(self, text: str) -> None:
        """Say what is wrong in a sentence that names the file."""
        ExitError.__init__(self, text, ExitCode.DAMAGED, "remove it and start again: the samples are asked anew")


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One batch."""

    split: common_pb2.Split
    key: int
    numbers_B: NDArray[np.int64]
    labels_B: WireLabels
    """Empty but for the training split."""
    content: bytes
    """The whole record, as it lies in the file."""

    @property
    def rows_BS(self) -> NDArray[np.uint8]:
        """Exponents and codes of each sample."""
        samples = len(self.numbers_B)
        start = _HEADER_BYTES + 4 * samples + self.labels_B.nbytes
        return np.frombuffer(self.content, np.uint8, offset=start).reshape(samples, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheShape:
    """What all records of a plan have in common."""

    codec: Codec
    blocks: int
    values: int
    """Morphed values of one sample."""
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
        """Of one sample's exponents and codes."""
        return self.codec.sample_bytes(blocks=self.blocks, values=self.values)

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
    shape: CacheShape, split: common_pb2.Split, numbers_B: NDArray[np.int64], batch: Batch, key: int
) -> CacheRecord:
    """The record of a checked batch."""
    codes = np.ascontiguousarray(batch.coded.codes_BV).view(np.uint8)
    rows_BS = np.hstack([batch.coded.exponents_BK, codes])
    body = numbers_B.astype("<u4").tobytes() + label_bytes(batch.labels_B) + rows_BS.tobytes()
    fields = _FIELDS.pack(_MAGIC, split, shape.codec.wire_id, key, len(numbers_B), len(body))
    return CacheRecord(split, key, numbers_B, batch.labels_B, fields + _crc(fields, body) + body)


def records(shape: CacheShape, path: Path, file: int, start: int, end: int) -> Iterator[CacheRecord]:
    """The whole records between two places, up to the first that is torn or damaged.

    `file` is a descriptor that can be read, `path` its name for errors; a record begins at `start`.

    Raises CacheError: what is there is no record, or one of another plan.
    """
    sizes, sample_bytes, at = shape.sizes, shape.sample_bytes, start
    while at + _HEADER_BYTES <= end:
        header = os.pread(file, _HEADER_BYTES, at)
        fields = header[: _FIELDS.size]
        magic, split, codec_id, key, samples, body_bytes = _FIELDS.unpack(fields)
        if magic != _MAGIC or split not in sizes or not samples:
            raise CacheError(f"{path} is damaged at byte {at}")
        labelled = split == common_pb2.SPLIT_TRAIN
        label_width = shape.labels.sample_bytes if labelled else 0
        if codec_id != shape.codec.wire_id or body_bytes != samples * (4 + label_width + sample_bytes):
            raise CacheError(f"{path} was written under another codec or image shape")
        if body_bytes > end - at - _HEADER_BYTES:
            return  # torn; memory for it is not even asked for
        body = os.pread(file, body_bytes, at + _HEADER_BYTES)
        if len(body) < body_bytes or _crc(fields, body) != header[_FIELDS.size :]:
            return
        numbers_B = np.frombuffer(body, "<u4", samples).astype(np.int64)
        if numbers_B.size and numbers_B.max() >= sizes[split]:
            raise CacheError(f"{path} holds samples that the plan does not have")
        labels_B = shape.labels.view(body, samples, 4 * samples) if labelled else NO_LABELS
        yield CacheRecord(split, key, numbers_B, labels_B, header + body)
        at += _HEADER_BYTES + body_bytes


def file_records(shape: CacheShape, path: Path, releases: int) -> Iterator[CacheRecord]:
    """All records of a file, as `records`; `releases` is how often a sample may come.

    Raises CacheError: as `records`; OSError: the file can't be read; UnsoundFileError: it is larger than all samples
    are, each sent as often and in a message of its own.
    """
    sample_bytes = 4 + shape.labels.sample_bytes + shape.sample_bytes
    most_bytes = releases * sum(shape.sizes.values()) * (_HEADER_BYTES + sample_bytes)
    with open_regular(path, most_bytes) as file:
        yield from records(shape, path, file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _crc(fields: bytes, body: bytes) -> bytes:
    return _CRC.pack(int(google_crc32c.extend(google_crc32c.value(fields), body)))
