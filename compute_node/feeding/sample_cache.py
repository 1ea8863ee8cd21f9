"""The received codes of a run, in one append-only file, so that no sample crosses the wire twice.

The file is made of the records of `mple.records.cache_records`, encrypted under a secret of the node's vault, each
sample by itself: one is read without the others, and a bit that flipped is noticed then. A torn tail, as a killed
process leaves it, is cut off when the file is opened again; what it held is asked for anew. What was made under a
revoked key is erased by writing the file anew without it.

Legend: B samples, L labels. A *number* counts a split's samples over all sites of the plan.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compute_node.layers.layer_bank import ErasedKeyError
from mple.disk.scarcity import open_patiently
from mple.disk.whole_files import put_in_place
from mple.records.cache_cipher import HEAD_BYTES, NONCE_BYTES, TAG_BYTES, CacheCipher, CacheError
from mple.records.cache_records import CacheRecord, CacheShape, pack_record, records
from mple.v1 import common_pb2
from mple.wire.batch import Batch
from mple.wire.codec import EncodedSamples
from mple.wire.label_form import CLASS_NUMBERS, LabelForm, plain_labels

_MOST_WIDE = 1 << 16
"""Beyond the wide codes of a block, which a record says in 16 bits."""


@dataclass(frozen=True, slots=True)
class CachedSamples:
    """Samples as they came, with the number of the key that each was morphed under."""

    coded: EncodedSamples
    """Where keys have bases of different widths, as wide as the widest, with zeros beyond in each block."""
    labels_B: NDArray[np.int64]
    """(B), or (B, L) with -1 for unknown labels."""
    keys_B: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Erased:
    """What `SampleCache.erase` has removed."""

    samples: int
    """Samples in the records that were erased; one that was stored twice counts twice."""
    lost: Mapping[common_pb2.Split, NDArray[np.int64]]
    """Numbers that the cache held before and holds no more, by split."""


class _Index:
    def __init__(self, samples: int, labels: LabelForm) -> None:
        self.offset = np.full(samples, -1, np.int64)
        self.label = labels.zeros(samples)
        self.key = np.zeros(samples, np.int64)
        self.nonce = np.zeros(samples, f"V{NONCE_BYTES}")
        self.sealed_bytes = np.zeros(samples, np.int64)
        self.wide = np.zeros(samples, np.int64)


class SampleCache:
    """Codes on disk, an index of fixed size in memory. Threads may append and read at the same time."""

    def __init__(
        self, path: Path, shape: CacheShape, secret: bytes, changed: threading.Condition | None = None
    ) -> None:
        """Open or make the file; a torn last record is cut off.

        Args:
            path: The file.
            shape: The plan's.
            secret: Of the node's vault, 32 bytes; what the file is encrypted under.
            changed: Notified when samples came or went, held meanwhile; by default the cache's own.

        Raises CacheError: a whole record contradicts codec, sizes or numbers: the file is another plan's, or it does
        not open with the secret.
        """
        self._path, self._shape = path, shape
        self._index = self._empty_index()
        self._samples_under: Counter[int] = Counter()
        self._erased: set[int] = set()
        self._changed = changed or threading.Condition()
        _Replacement.remove_left(path)
        self._file = _CacheFile(path)
        try:
            self._cipher = self._file.cipher(secret, path)
            self._end = HEAD_BYTES
            for record in records(shape, path, self._cipher, self._file.number, self._end, self._file.size):
                self._end += len(record.content)
                self._enter(self._index, record, self._end)
                self._samples_under[record.key] += len(record.numbers_B)
        except CacheError:
            self._file.close()
            raise
        os.ftruncate(self._file.number, self._end)

    def held(self, split: common_pb2.Split) -> NDArray[np.bool_]:
        """Which numbers of a split are here."""
        return self._index[split].offset >= 0

    def holds(self, split: common_pb2.Split, numbers: NDArray[np.int64]) -> bool:
        """Whether all of these are here."""
        return bool((self._index[split].offset[numbers] >= 0).all())

    def append(self, split: common_pb2.Split, numbers: NDArray[np.int64], batch: Batch, key: int) -> None:
        """Keep a checked batch; a number that is already here is replaced by the newer codes.

        Raises ErasedKeyError: the key has been erased; OSError: the disk refused; the file ends as before.
        """
        record = pack_record(self._cipher, self._shape, split, numbers, batch, key)
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

        Raises KeyError: one of them is not here; CacheError: one is not as it was written.
        """
        with self._changed:  # a sample may be replaced meanwhile: its codes, label and key belong together
            index, file = self._index[split], self._file
            offsets, labels_B, keys_B = index.offset[numbers], index.label[numbers], index.key[numbers]
            nonces, sizes_B = index.nonce[numbers].tobytes(), index.sealed_bytes[numbers]
            wide_B = index.wide[numbers]
        if (offsets < 0).any():
            raise KeyError(f"sample {int(numbers[int(np.argmin(offsets))])} is not in the cache")
        rows, opened = [], self._cipher.opened
        for place, (offset, size) in enumerate(zip(offsets.tolist(), sizes_B.tolist(), strict=True)):
            nonce = nonces[place * NONCE_BYTES : (place + 1) * NONCE_BYTES]
            row = opened(nonce, os.pread(file.number, size, offset))
            if row is None:
                text = f"{self._path} is damaged: sample {int(numbers[place])} is not as it was written"
                raise CacheError(text, "start again: what does not open is cut off then, and its samples asked anew")
            rows.append(row)
        return CachedSamples(self._coded(rows, sizes_B - TAG_BYTES, wide_B), plain_labels(labels_B), keys_B)

    def count(self, key: int) -> int:
        """Samples in all records under a key, one that is stored twice counted twice."""
        with self._changed:
            return self._samples_under[key]

    def erase(self, key: int) -> Erased:
        """Write the file anew without what was made under a key, and take nothing more under it.

        Samples can be read and others appended meanwhile. The old file is unlinked, not overwritten.

        Guarantees: a process that dies within it leaves the old file or the new one, whole.

        Raises OSError: the disk refused; the file is as before, and nothing more is taken under the key.
        """
        with self._changed:
            self._erased.add(key)
            copied_to = self._end
            if not self._samples_under[key]:
                return Erased(0, {split: np.empty(0, np.int64) for split in self._shape.sizes})
        new = _Replacement(self._path)
        index = self._empty_index()
        try:
            _write(new, 0, self._cipher.head)
            written, samples = self._copy_without(key, new, HEAD_BYTES, index, HEAD_BYTES, copied_to)
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
        self, key: int, new: _CacheFile, written: int, index: dict[common_pb2.Split, _Index], start: int, end: int
    ) -> tuple[int, int]:
        """Where the new file ends, and how many samples were left out."""
        left_out = 0
        for record in records(self._shape, self._path, self._cipher, self._file.number, start, end):
            if record.key == key:
                left_out += len(record.numbers_B)
                continue
            _write(new, written, record.content)
            written += len(record.content)
            self._enter(index, record, written)
        return written, left_out

    def _coded(self, rows: Sequence[bytes], sizes_B: NDArray[np.int64], wide_B: NDArray[np.int64]) -> EncodedSamples:
        """Samples of rows, whose bytes and wide codes these are; those of one form together."""
        shape, forms_B = self._shape, sizes_B * _MOST_WIDE + wide_B
        forms = [divmod(form, _MOST_WIDE) for form in np.unique(forms_B).tolist()]
        if len(forms) <= 1:
            size, wide = forms[0] if forms else (shape.sample_bytes, 0)
            return shape.coded(shape.widened(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), size), wide))
        columns = max(size // shape.blocks - wide for size, wide in forms)
        codes_BKd = np.zeros((len(rows), shape.blocks, columns), shape.codec.code_dtype)
        for size, wide in forms:
            some = np.flatnonzero(forms_B == size * _MOST_WIDE + wide).tolist()
            kept_BS = np.frombuffer(b"".join([rows[place] for place in some]), np.uint8).reshape(len(some), size)
            coded = shape.coded(shape.widened(kept_BS, wide))
            codes_BKd[some, :, : size // shape.blocks - wide] = coded.codes_BV.reshape(len(some), shape.blocks, -1)
        return EncodedSamples(codes_BKd.reshape(len(rows), -1), np.empty((len(rows), 0), np.uint8))

    def _empty_index(self) -> dict[common_pb2.Split, _Index]:
        return {
            split: _Index(samples, self._shape.labels if split == common_pb2.SPLIT_TRAIN else CLASS_NUMBERS)
            for split, samples in self._shape.sizes.items()
        }

    def _enter(self, indexes: dict[common_pb2.Split, _Index], record: CacheRecord, record_end: int) -> None:
        index, numbers = indexes[record.split], record.numbers_B
        samples_start = record_end - len(numbers) * record.sealed_bytes
        if record.labels_B.size:
            index.label[numbers] = record.labels_B
        index.key[numbers] = record.key
        index.offset[numbers] = samples_start + np.arange(len(numbers)) * record.sealed_bytes
        index.sealed_bytes[numbers], index.wide[numbers] = record.sealed_bytes, record.wide
        index.nonce[numbers] = np.frombuffer(b"".join(record.nonces), index.nonce.dtype)


class _CacheFile:
    """A file that stays open until the last of its readers is through, replaced or not."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.number = open_patiently(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if new else 0), 0o600)

    def __del__(self) -> None:
        self.close()

    def cipher(self, secret: bytes, path: Path) -> CacheCipher:
        """The file's, which gets a head where it has none. Raises CacheError: as `CacheCipher.of`."""
        head = os.pread(self.number, HEAD_BYTES, 0)
        if not CacheCipher.begun(head):
            return CacheCipher.of(secret, head, path)
        cipher = CacheCipher(secret)
        _write(self, 0, cipher.head)
        return cipher

    def close(self) -> None:
        """Close now; a second call does nothing."""
        number, self.number = getattr(self, "number", -1), -1
        if number >= 0:
            os.close(number)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self.number).st_size


class _Replacement(_CacheFile):
    """A new file beside a path that can take its place, name and content on the disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, _beside(path)
        super().__init__(self._beside, new=True)

    @staticmethod
    def remove_left(path: Path) -> None:
        """Remove what a process left that died before `take_place`."""
        _beside(path).unlink(missing_ok=True)

    def take_place(self) -> None:
        """Put the file where the old one is."""
        put_in_place(self._beside, self._path)

    def discard(self) -> None:
        """Close and remove the file instead."""
        self.close()
        self._beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write(file: _CacheFile, position: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file.number, view, position)
        view, position = view[written:], position + written
