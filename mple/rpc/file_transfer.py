"""A file over a stream of chunks, both ends of it side by side: from any offset, with a marked last chunk and a digest.

A transfer that breaks goes on where it was. A stream can't end without the chunk that is marked as the last, nor go on
behind it: truncation and trailing data are errors. Nothing is allocated by a declared size.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple, TypeVar

from mple.disk.private import private_file
from mple.disk.scarcity import open_patiently
from mple.disk.whole_files import file_sha256, put_in_place
from mple.rpc.errors import ErrorCode, MpleError

CHUNK_BYTES = 512 * 1024
"""Of the largest chunk."""
ATTEMPTS = 3
"""How often a file is transferred whose bytes differ from its digest."""
_LOGGER = logging.getLogger("mple.rpc")
T = TypeVar("T")


class Chunk(NamedTuple):
    """One message's part of a file."""

    offset: int
    data: bytes
    final: bool


def chunks_of(path: Path, offset: int, total_bytes: int) -> Iterator[Chunk]:
    """The sender's half: a file's bytes from an offset on; one empty last chunk when nothing is left.

    Raises MpleError: FILE_OFFSET beyond the end, STREAM_TRUNCATED when the file is shorter than `total_bytes`.
    """
    if offset > total_bytes:
        raise MpleError(ErrorCode.FILE_OFFSET, f"offset {offset} of a file of {total_bytes} bytes")
    with open(path, "rb", opener=open_patiently) as file:
        file.seek(offset)
        final = False
        while not final:
            data = file.read(CHUNK_BYTES)
            final = offset + len(data) == total_bytes
            if not data and not final:
                raise MpleError(ErrorCode.STREAM_TRUNCATED, f"the file ends at byte {offset} of {total_bytes}")
            yield Chunk(offset, data, final)
            offset += len(data)


class ChunkFile:
    """The receiver's half: a file that grows as `<name>.part` and gets its name once all of it is here, as announced.
    One of these takes in one stream; the bytes that it leaves are gone on from by the next one. Callers serialise
    access."""

    def __init__(self, path: Path, total_bytes: int, sha256: bytes) -> None:
        """Go on with what is here; a part that is longer than the file can be is removed."""
        self._path, self._part = path, _part_of(path)
        self._total_bytes, self._sha256 = total_bytes, sha256
        self._ended = False
        if self.present > total_bytes:
            self._part.unlink()

    @property
    def present(self) -> int:
        """Bytes that are here, from the beginning on: where the next chunk begins."""
        if self._path.exists():
            return self._total_bytes
        return self._part.stat().st_size if self._part.exists() else 0

    def take(self, offset: int, data: bytes, final: bool) -> None:
        """Keep one chunk's bytes.

        Raises MpleError: MESSAGE_MALFORMED for a chunk that is empty, too long, behind the last or beyond the announced
        size, FILE_OFFSET for one that does not begin where the file ends; nothing is kept then. STREAM_TRUNCATED when
        the last comes early; its bytes are kept; OSError: the disk refused.
        """
        if self._ended:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "a message follows the one that was marked as the last")
        if len(data) > CHUNK_BYTES:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"chunk of {len(data)} bytes; allowed are {CHUNK_BYTES}")
        if not data and not final:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "an empty chunk that is not the last")
        present, total = self.present, self._total_bytes
        if offset != present:
            raise MpleError(ErrorCode.FILE_OFFSET, f"chunk at byte {offset}, expected {present}")
        if present + len(data) > total:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"bytes beyond the announced {total} of the file")
        if data:
            with open(private_file(self._part), "ab", opener=open_patiently) as file:
                file.write(data)
        if final and present + len(data) != total:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, f"marked as the last at byte {present + len(data)} of {total}")
        self._ended = final

    def finish(self, naming: AbstractContextManager[object] | None = None, *, lasting: bool = True) -> Path:
        """The whole file, its digest checked, under its name.

        `naming` is entered once the digest is known, while the file gets its name: for files that others may replace. A
        `lasting` one is on the disk when this returns; of another a crash may leave anything under its name.

        Raises MpleError: STREAM_TRUNCATED when the last chunk never came; what came is kept. FILE_DIGEST_MISMATCH; the
        bytes are gone then; OSError: the disk refused.
        """
        if not self._ended:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, "the stream ended before its last chunk; begin again to go on")
        if self._path.exists():
            return self._path
        try:
            found = file_sha256(self._part)
        except FileNotFoundError:
            found = b""
        with naming or nullcontext():
            if found != self._sha256:
                self._part.unlink(missing_ok=True)
                text = f"the bytes have {found.hex()[:16]}, announced was {self._sha256.hex()[:16]}"
                raise MpleError(ErrorCode.FILE_DIGEST_MISMATCH, text)
            if lasting:
                put_in_place(self._part, self._path)
            else:
                self._part.replace(self._path)
        return self._path


def remove_file(path: Path) -> None:
    """Remove a file that came in chunks, or what has come of it."""
    for one in (path, _part_of(path)):
        one.unlink(missing_ok=True)


def while_torn(transfer: Callable[[], T]) -> T:
    """Transfer a file, and anew while the receiver's bytes have another digest: it has removed them then.

    Raises MpleError: FILE_DIGEST_MISMATCH every time, or whatever else `transfer` raises.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return transfer()
        except MpleError as fault:
            if fault.code is not ErrorCode.FILE_DIGEST_MISMATCH:
                raise
            _LOGGER.warning("%s; transferring the file anew", fault)
    return transfer()


def _part_of(path: Path) -> Path:
    return path.with_suffix(".part")
