"""How often each sample has left the site, so that no request gets more than the plan allows.

A file of records, one for each answered request, on the disk before the answer is sent: the limit holds for the run,
not for the process. Each record carries a CRC-32C over itself and all before it, little-endian:

    "MPR2", samples of training, validation, testing u32[3], CRC u32
    split u8, count u32, ids u32[count], CRC u32 | ...

Less than was sent can't be shown unseen. What a killed process left of a record was never sent, and is cut off; but a
book that shows fewer releases than the site's own ledger has, or than the compute node says that it has received, is an
older copy, or was cut: nothing is sent then. The compute node gains nothing by claiming more, for it gets less.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mple.disk.damage import DamagedError
from mple.disk.scarcity import open_patiently, patiently
from mple.disk.whole_files import write_whole
from mple.v1 import common_pb2

_MAGIC = b"MPR2"
_HEADER, _RECORD, _CRC = struct.Struct("<4sIII"), struct.Struct("<BI"), struct.Struct("<I")
_FIX = "put the newest copy back and start the node again with the same command; without one, begin a new run"


class ReleaseError(ValueError):
    """A request goes beyond the plan; `limit` tells too often from not this site's."""

    def __init__(self, text: str, *, limit: bool) -> None:
        super().__init__(text)
        self.limit = limit


class ReleaseBook:
    """Counts releases of all splits."""

    def __init__(self, path: Path, *, train: int, test: int, val: int = 0, most: int, sent: int = 0) -> None:
        """Open or make the file of a run.

        Args:
            path: The file; one per run.
            train: Training samples of the site.
            test: Its test samples.
            val: Its validation samples.
            most: Releases of one sample that the plan allows.
            sent: Samples that have left in this run, each time counted, as the site's ledger has it.

        Raises ValueError: the file is of other sizes; DamagedError: it is damaged, or shows fewer than `sent`.
        """
        self._path, self._most = path, most
        self._counts = {
            common_pb2.SPLIT_TRAIN: np.zeros(train, np.uint8),
            common_pb2.SPLIT_VAL: np.zeros(val, np.uint8),
            common_pb2.SPLIT_TEST: np.zeros(test, np.uint8),
        }
        header = _HEADER.pack(_MAGIC, train, val, test)
        if not path.exists():
            if sent:
                raise DamagedError(path, f"is gone, and {sent} samples have left in this run", _FIX)
            write_whole(path, header + _CRC.pack(_crc(0, header)))
        self._file = open_patiently(path, os.O_RDWR)
        self._end, self._chained = self._read(header)
        self.require(sent, "the site's ledger has")
        os.ftruncate(self._file, self._end)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    @property
    def total(self) -> int:
        """Releases of all samples."""
        return sum(int(counts.sum()) for counts in self._counts.values())

    def counts(self, split: common_pb2.Split) -> NDArray[np.uint8]:
        """Releases of each sample of a split."""
        return self._counts[split].copy()

    def require(self, sent: int, witness: str, of: Mapping[common_pb2.Split, slice] | None = None) -> None:
        """Raise DamagedError when fewer releases are counted than have left as a witness has it ("the ledger has").

        Args:
            sent: How many have left.
            witness: Who says so.
            of: Samples that the witness can know of, by their places in each split; all by default.
        """
        counted = self.total if of is None else sum(int(self._counts[split][part].sum()) for split, part in of.items())
        if counted < sent:
            text = f"counts {counted} samples sent, {witness} {sent}: it was cut, or is an older copy"
            raise DamagedError(self._path, text, _FIX)

    def release(self, split: common_pb2.Split, samples: Sequence[int]) -> int:
        """Count one release of each of these samples, or of none of them; returns how many were released before. When
        it returns, the release is on the disk.

        Raises:
            ReleaseError: No sample is named, or one is not the site's, comes twice, or has been released often enough.
            OSError: The disk refused; nothing is counted.
        """
        if split not in self._counts:
            raise ReleaseError(f"split {split} is not one of the plan's", limit=False)
        released = self._counts[split]
        places = np.asarray(samples, np.int64)
        if not places.size:
            raise ReleaseError("a request names no sample", limit=False)
        outside = places[(places < 0) | (places >= released.size)]
        if outside.size:
            text = f"sample {int(outside[0])} was asked for; the split has {released.size}, from 0"
            raise ReleaseError(text, limit=False)
        if len(np.unique(places)) != len(places):
            raise ReleaseError("a request names a sample twice", limit=False)
        counts = released[places]
        if counts.max() >= self._most:
            sample = int(places[int(counts.argmax())])
            raise ReleaseError(
                f"sample {sample} was already sent {int(counts.max())} times; the plan allows {self._most}", limit=True
            )
        self._append(_RECORD.pack(split, len(places)) + places.astype("<u4").tobytes())
        released[places] = counts + 1
        return int(np.count_nonzero(counts))

    def _append(self, record: bytes) -> None:
        chained = _crc(self._chained, record)
        content = record + _CRC.pack(chained)
        try:
            if os.pwrite(self._file, content, self._end) < len(content):
                os.pwrite(self._file, content, self._end)  # the system says why it takes no more
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end, self._chained = self._end + len(content), chained

    def _read(self, header: bytes) -> tuple[int, int]:
        """Where the whole records end, and their CRC; the counts are those of the records."""
        content = patiently(self._path.read_bytes)
        end = len(header) + _CRC.size
        chained = _crc(0, content[: len(header)])
        if content[len(header) : end] != _CRC.pack(chained):
            raise DamagedError(self._path, "is damaged at its beginning", _FIX)
        if content[: len(header)] != header:
            theirs = _HEADER.unpack(content[: len(header)])[1:]
            ours = [counts.size for counts in self._counts.values()]
            raise ValueError(
                f"{self._path} counts {', '.join(map(str, theirs))} samples of training, validation and testing, the "
                f"site has {', '.join(map(str, ours))}; begin a new run for other data"
            )
        for split, samples, stop, crc in _records(content, end, chained):
            if content[stop - _CRC.size : stop] != _CRC.pack(crc):
                if content[stop:].strip(b"\0"):
                    raise DamagedError(self._path, f"is damaged at byte {end}", _FIX)
                break
            self._counts[split][samples] += 1
            end, chained = stop, crc
        return end, chained


def _records(content: bytes, at: int, chained: int) -> Iterator[tuple[common_pb2.Split, NDArray[np.int64], int, int]]:
    """Split, samples, end and CRC of each record that is not cut, whether it is sound or not."""
    while at + _RECORD.size <= len(content):
        split, count = _RECORD.unpack_from(content, at)
        body = at + _RECORD.size
        stop = body + 4 * count + _CRC.size
        if stop > len(content):
            return
        samples = np.frombuffer(content, "<u4", count, body).astype(np.int64)
        chained = _crc(chained, content[at : stop - _CRC.size])
        yield split, samples, stop, chained
        at = stop


def _crc(before: int, content: bytes) -> int:
    return int(google_crc32c.extend(before, content))
