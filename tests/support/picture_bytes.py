"""Picture files byte by byte, so that what is right does not depend on a library that reads or writes pictures."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_TIFF_FORMATS = {3: "H", 4: "I"}
_STRIP_OFFSETS = 273
_BYTES = {"t270": 2}
"""A description is text, other bytes are of no stated kind."""


def png_bytes(
    pixels: np.ndarray,
    *before: tuple[bytes, bytes],
    behind: Sequence[tuple[bytes, bytes]] = (),
    colour_type: int | None = None,
) -> bytes:
    """A PNG of uint8 or uint16 values (H, W) or (H, W, C), with further chunks before and behind its pixels."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples] if colour_type is None else colour_type
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    chunks = ((b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *behind, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def tiff_bytes(
    pixels: np.ndarray,
    photometric: int | None,
    order: str = "<",
    *,
    packed: bool = False,
    **tags: Sequence[int] | bytes,
) -> bytes:
    """A TIFF of one strip (H, W) or (H, W, C), in the byte order `<` or `>`; further tags by name, `t274=[6]`.

    Args:
        pixels: Of any dtype; its size and kind become BitsPerSample and SampleFormat.
        photometric: PhotometricInterpretation; None leaves the tag out.
        order: Byte order.
        packed: Compressed by zlib (Adobe deflate).
        tags: Of numbers as SHORT, of bytes as UNDEFINED, or text for a description; `strips` are the strips' bytes in
            place of the pixels.
    """
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    strips = tags.pop("strips", None) or [pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()]
    strips = [zlib.compress(strip) if packed else strip for strip in strips]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    entries: dict[int, tuple[int, Sequence[int] | bytes]] = {
        256: (4, [pixels.shape[1]]),
        257: (4, [pixels.shape[0]]),
        258: (3, [8 * pixels.itemsize] * samples),
        259: (3, [8 if packed else 1]),
        277: (3, [samples]),
        278: (4, [pixels.shape[0]]),
        279: (4, [len(strip) for strip in strips]),
        339: (3, [kind] * samples),
        _STRIP_OFFSETS: (4, [0] * len(strips)),
    }
    if photometric is not None:
        entries[262] = (3, [photometric])
    for name, value in tags.items():
        entries[int(name[1:])] = (_BYTES.get(name, 7) if isinstance(value, bytes) else 3, value)
    return _tiff_file(entries, strips, order)


def exif_bytes(orientation: int, order: str = "<") -> bytes:
    """EXIF with nothing but an orientation, as a TIFF without pixels."""
    return _tiff_file({274: (3, [orientation])}, [], order)


def xmp_bytes(orientation: int) -> bytes:
    """XMP with nothing but an orientation."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
        % orientation
    )


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, body = chunk
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff_file(entries: dict[int, tuple[int, Sequence[int] | bytes]], strips: list[bytes], order: str) -> bytes:
    def packed(kind: int, value: Sequence[int] | bytes) -> bytes:
        body = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}{_TIFF_FORMATS[kind]}", *value)
        return body + bytes(len(body) % 2)

    place = 8 + 2 + 12 * len(entries) + 4
    places = {}
    for tag, (kind, value) in sorted(entries.items()):
        if len(packed(kind, value)) > 4:
            places[tag] = place
            place += len(packed(kind, value))
    starts = [place + sum(map(len, strips[:number])) for number in range(len(strips))]
    table, outside = struct.pack(f"{order}H", len(entries)), b""
    for tag, (kind, value) in sorted(entries.items()):
        body = packed(kind, starts if tag == _STRIP_OFFSETS else value)
        table += struct.pack(f"{order}HHI", tag, kind, len(value))
        table += struct.pack(f"{order}I", places[tag]) if tag in places else body.ljust(4, b"\0")
        outside += body if tag in places else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return start + table + bytes(4) + outside + b"".join(strips)
