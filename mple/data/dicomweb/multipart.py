"""The single part of a multipart/related answer, as WADO-RS sends an instance (RFC 2387, RFC 2046). Pure.

Where the part ends its delimiter says, not a length that stands anywhere; an answer without its closing delimiter has
been cut off. Nothing is held but a chunk and the part's head.
"""

from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import BytesHeaderParser

from mple.data.images import DataError
from mple.data.names import shown

DICOM = "application/dicom"
_MOST_HEAD = 16 * 1024
"""Bytes before the part's content, and behind it."""
_MOST_BOUNDARY = 70
"""Characters, as RFC 2046 has it."""


class CutOffError(Exception):
    """An answer ended before its part did."""


def instance_bytes(content_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of the one DICOM file that an answer holds, piece by piece as they come.

    An answer that is the file itself, as some servers send it, is taken, too.

    Raises DataError: the answer is of another type, names no boundary, or holds no part or several; CutOffError: it
    ended early.
    """
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() == DICOM:
        yield from chunks
        return
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related":
        raise DataError(f"it is {shown(content_type or 'of no type')}, not multipart/related with {DICOM}")
    if not isinstance(boundary, str) or not boundary.isascii() or not 1 <= len(boundary) <= _MOST_BOUNDARY:
        raise DataError(f"its boundary {shown(boundary)} is none")
    yield from _part(boundary.encode(), iter(chunks))


def _part(boundary: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    delimiter = b"\r\n--" + boundary
    held = bytearray(b"\r\n")  # a delimiter at the very start looks like any other then
    head = _taken_until(b"\r\n\r\n", held, chunks, after=delimiter)
    if head.startswith(b"--"):
        raise DataError("it holds no part")
    kind = BytesHeaderParser().parsebytes(head.lstrip()).get_content_type() if head.strip() else DICOM
    if kind != DICOM:
        raise DataError(f"its part is {shown(kind)}, not {DICOM}")
    tail = len(delimiter) - 1
    while (end := held.find(delimiter)) < 0:
        if len(held) > tail:
            yield bytes(held[:-tail])
            del held[:-tail]
        held += _next(chunks)
    yield bytes(held[:end])
    del held[: end + len(delimiter)]
    while len(held) < 2:
        held += _next(chunks)
    if held[:2] != b"--":
        raise DataError("it holds several parts; one instance was asked for")
    for more in chunks:  # what is left is read, so that the connection can be used again
        held += more
        if len(held) > _MOST_HEAD:
            raise DataError(f"it goes on for more than {_MOST_HEAD} bytes behind its end")


def _taken_until(end: bytes, held: bytearray, chunks: Iterator[bytes], *, after: bytes) -> bytes:
    """What lies between two marks, which goes from `held` with all before it and both marks."""
    while True:
        start = held.find(after)
        stop = held.find(end, start + len(after)) if start >= 0 else -1
        if start >= 0 and held[start + len(after) :].startswith(b"--"):
            return b"--"
        if stop >= 0:
            taken = bytes(held[start + len(after) : stop])
            del held[: stop + len(end)]
            return taken
        if len(held) > _MOST_HEAD:
            raise DataError(f"no part begins in its first {_MOST_HEAD} bytes")
        held += _next(chunks)


def _next(chunks: Iterator[bytes]) -> bytes:
    chunk = next(chunks, None)
    if chunk is None:
        raise CutOffError("its answer ends before its last delimiter")
    return chunk
