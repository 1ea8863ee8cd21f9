"""Layers as files: resumable uploads under their digest, chunk by chunk, and downloads.

A part file grows only where it ends; its length is the resume offset. Nothing is allocated by a declared size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire.layer_file import file_sha256

CHUNK_BYTES = 512 * 1024


class LayerStore:
    """A folder of layers, each named by its SHA-256."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def path(self, sha256: bytes) -> Path:
        """Where a whole layer lies."""
        return self._directory / f"{sha256.hex()}.safetensors"

    def resume_offset(self, header: coordinator_pb2.LayerHeader) -> int:
        """How many bytes of an announced layer are here."""
        if self.path(header.sha256).exists():
            return int(header.total_bytes)
        part = self._part(header.sha256)
        return part.stat().st_size if part.exists() else 0

    def receive(
        self, header: coordinator_pb2.LayerHeader, chunks: Iterator[coordinator_pb2.UploadLayerRequest]
    ) -> Path:
        """Take in the rest of an announced layer and return its file, checked by digest.

        Raises:
            MpleError: LAYER_OFFSET, STREAM_TRUNCATED or LAYER_DIGEST_MISMATCH. After the last the part is gone; after
                the others what came before stays and can be gone on from.
        """
        whole = self.path(header.sha256)
        if whole.exists():
            for _ in chunks:
                pass
            return whole
        part = self._part(header.sha256)
        final = False
        with part.open("ab") as file:
            at = file.tell()
            for chunk in chunks:
                if final or chunk.offset != at or len(chunk.data) > CHUNK_BYTES or at + len(chunk.data) > header.total_bytes:
                    raise MpleError(
                        ErrorCode.LAYER_OFFSET,
                        f"a chunk of {len(chunk.data)} bytes at {chunk.offset}; {at} of {header.total_bytes} are here",
                    )
                file.write(chunk.data)
                at, final = at + len(chunk.data), chunk.final
            file.flush()
            os.fsync(file.fileno())
        if not final or at != header.total_bytes:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, f"the layer ended at byte {at} of {header.total_bytes}")
        if file_sha256(part) != header.sha256:
            part.unlink()
            raise MpleError(ErrorCode.LAYER_DIGEST_MISMATCH, f"layer of {header.key_ref.site}; upload it again")
        os.replace(part, whole)
        return whole

    def send(self, sha256: bytes, offset: int) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        """A whole layer's bytes from an offset on.

        Raises:
            MpleError: LAYER_OFFSET when the offset lies behind the end.
        """
        path = self.path(sha256)
        total = path.stat().st_size
        if not 0 <= offset < total:
            raise MpleError(ErrorCode.LAYER_OFFSET, f"offset {offset} in a layer of {total} bytes")
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(CHUNK_BYTES):
                final = offset + len(data) == total
                yield coordinator_pb2.DownloadLayerResponse(offset=offset, data=data, final=final)
                offset += len(data)

    def discard(self, sha256: bytes) -> None:
        """Delete a layer that was not accepted."""
        self.path(sha256).unlink(missing_ok=True)

    def _part(self, sha256: bytes) -> Path:
        return self._directory / f"{sha256.hex()}.part"
