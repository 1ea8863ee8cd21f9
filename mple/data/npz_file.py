"""Plain arrays out of .npz files, by rows and bounded: a header is judged before anything is allocated for it.

`numpy.load` would unpack whole arrays; a site needs the rows of its part only. Pickled arrays are refused, since
reading one runs code from the file.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.machine import require_memory

_CHUNK_BYTES = 8 * 1024**2
_MOST_HEADER_BYTES = 64 * 1024
_MOST_EMPTY = 2**32
"""Rows of no bytes, or columns of no rows: counted all the same, one after the other."""


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran_order: bool

    @property
    def n_bytes(self) -> int:
        """Of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """An open .npz file.

    Guarantees: nothing in it is unpickled; an array is read only where its declared size is within `most_bytes` and
    agrees with the archive's; every array that is read is read to its end, so its checksum is always compared. All
    faults are a `DataError` with the file's name.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Open a file. Raises DataError: there is none, or it is no zip archive."""
        self._path, self._most_bytes = path, most_bytes
        if not path.is_file():
            raise DataError(f"no data file at {path}")
        with self._faults_named():
            self._archive = zipfile.ZipFile(path)
        twice = [name for name, count in Counter(self._archive.namelist()).items() if count > 1]
        if twice:
            self._archive.close()
            raise DataError(f"{path} holds {twice[0]!r} twice; save it anew")

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    @property
    def names(self) -> frozenset[str]:
        """Names of the arrays."""
        return frozenset(name.removesuffix(".npy") for name in self._archive.namelist() if name.endswith(".npy"))

    def header(self, name: str) -> ArrayHeader:
        """What the header of an array says."""
        with self._opened(name) as (_, header):
            return header

    def read(self, name: str) -> NDArray[np.generic]:
        """A whole array."""
        header = self.header(name)
        if not header.shape:
            raise DataError(f"{self._path}: {name} is a single number, not an array")
        whole = np.empty(header.shape, header.dtype)
        filled = 0
        for rows in self.chunks(name, np.arange(header.shape[0])):
            whole[filled : filled + len(rows)] = rows
            filled += len(rows)
        return whole

    def chunks(self, name: str, places: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
        """The rows with these numbers, which ascend, in consecutive blocks of some MiB."""
        with self._opened(name) as (stream, header):
            if header.fortran_order:
                require_memory(header.n_bytes, f"{name} of {self._path}, in Fortran's order", "save it in C order")
                flat = np.frombuffer(self._exactly(stream, header.n_bytes), header.dtype)
                whole = flat.reshape(header.shape, order="F")
                if len(places):
                    yield whole[places]
            else:
                yield from self._row_chunks(stream, header, places)
            if stream.read(1):
                raise DataError(f"{self._path} is damaged: {name} goes on after its end; fetch it again")

    def _row_chunks(
        self, stream: IO[bytes], header: ArrayHeader, places: NDArray[np.int64]
    ) -> Iterator[NDArray[np.generic]]:
        row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        at_once = max(1, _CHUNK_BYTES // max(1, row_bytes))
        for start in range(0, header.shape[0], at_once):
            count = min(at_once, header.shape[0] - start)
            block = self._exactly(stream, count * row_bytes)
            first, last = np.searchsorted(places, (start, start + count))
            if last > first:
                rows = np.frombuffer(block, header.dtype).reshape(count, *header.shape[1:])
                yield rows[places[first:last] - start]

    def _exactly(self, stream: IO[bytes], count: int) -> bytes:
        block = stream.read(count)
        if len(block) != count:
            raise DataError(f"{self._path} is damaged: an array ends early; fetch it again")
        return block

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], ArrayHeader]]:
        with self._faults_named():
            member = self._archive.getinfo(f"{name}.npy")
            if member.file_size > self._most_bytes + _MOST_HEADER_BYTES:
                raise self._too_large(name, member.file_size)
            with self._archive.open(member) as stream:
                header = self._header(name, stream)
                if header.n_bytes > self._most_bytes:
                    raise self._too_large(name, header.n_bytes)
                if member.file_size - stream.tell() != header.n_bytes:
                    found = f"declares {header.n_bytes} bytes and has {member.file_size - stream.tell()}"
                    raise DataError(f"{self._path} is damaged: {name} {found}; fetch it again")
                yield stream, header

    def _header(self, name: str, stream: IO[bytes]) -> ArrayHeader:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{self._path}: {name} has .npy version {version}; save it as a plain array of numbers")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
        if dtype.hasobject:
            raise DataError(f"{self._path}: {name} is a pickled array, which could run code; save it as plain numbers")
        if min(shape, default=0) < 0 or (0 in shape and max(shape) > _MOST_EMPTY):
            raise DataError(f"{self._path} is damaged: {name} declares the shape {shape}")
        return ArrayHeader(tuple(shape), dtype, fortran_order)

    def _too_large(self, name: str, n_bytes: int) -> DataError:
        return DataError(
            f"{self._path}: {name} says it unpacks to {n_bytes} bytes, at most {self._most_bytes} are read; "
            "raise most_bytes if the file can be trusted"
        )

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except (
            zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError, RuntimeError, ValueError,
            MemoryError, OverflowError
        ) as fault:  # fmt: skip
            raise DataError(f"{self._path} is damaged: {fault}; fetch it again") from None
