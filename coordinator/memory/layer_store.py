"""Layer files: resumable uploads by content, downloads from any offset.

A layer's file comes as `mple.rpc.file_transfer` says; a site can have one unfinished file at most.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.memory.state_file import StateFile, as_bytes
from coordinator.plan_maker import layer_weight_bytes
from mple.disk.private import make_private
from mple.disk.whole_files import file_sha256, put_in_place
from mple.node.logs import warn
from mple.plan import Custody, RunPlan
from mple.plan.key_refs import key_ref
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import ChunkFile, chunks_of, remove_file
from mple.v1 import common_pb2, coordinator_pb2

MOST_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that has been announced."""

    header: coordinator_pb2.LayerHeader
    released: bool


def check_begin(
    plan: RunPlan,
    site: str,
    request: coordinator_pb2.BeginLayerRequest,
    keys: Collection[common_pb2.KeyRef] | None = None,
) -> None:
    """Check what a site announces of its layer.

    Args:
        plan: The run's plan.
        site: The site, by its certificate.
        request: As received.
        keys: The site's keys that may have a layer, by default the plan's alone.

    Raises MpleError: PLAN_HASH_MISMATCH, UNKNOWN_KEY_REF, or LAYER_REJECTED for an impossible size or digest.
    """
    if request.plan_sha256 != plan.sha256():
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"site {site} follows {request.plan_sha256.hex()[:16] or 'none'}, the run {plan.sha256().hex()[:16]}",
        )
    if plan.custody is Custody.ESCROW:
        raise MpleError(ErrorCode.LAYER_REJECTED, "in escrow custody the coordinator builds the layers")
    header = request.header
    if header.key_ref not in ((key_ref(plan, site),) if keys is None else keys):
        raise MpleError(
            ErrorCode.UNKNOWN_KEY_REF,
            f"site {site} announces a layer of {header.key_ref.site[:80]!r}, epoch {header.key_ref.epoch}, key "
            f"{header.key_ref.fingerprint.hex()[:16]}; its key in the plan is another, and it has rotated to none such",
        )
    least, most = layer_weight_bytes(plan)
    if not least < header.total_bytes <= most + MOST_HEADER_BYTES:
        raise MpleError(
            ErrorCode.LAYER_REJECTED,
            f"layer file of {header.total_bytes} bytes; under the plan it has "
            f"{least if least == most else f'{least} to {most}'} and a header",
        )
    if len(header.sha256) != 32:
        raise MpleError(ErrorCode.LAYER_REJECTED, f"digest of {len(header.sha256)} bytes; SHA-256 has 32")


class LayerStore:
    """The layers of a run."""

    def __init__(self, file: StateFile, folder: Path) -> None:
        self._file, self._folder = file, folder
        make_private(folder)
        self._lock = threading.Lock()
        self._writer: dict[bytes, Upload] = {}
        self._whole: set[bytes] = set()
        """Digests of the files that were looked at since the start."""

    def of_key(self, site: str, epoch: int) -> StoredLayer | None:
        """What a site has announced for one of its keys."""
        rows = self._file.rows("SELECT header, released FROM key_layers WHERE site = ? AND epoch = ?", site, epoch)
        return _stored(rows[0]) if rows else None

    def with_digest(self, sha256: bytes) -> StoredLayer | None:
        """The layer of a digest."""
        rows = self._file.rows("SELECT header, released FROM key_layers WHERE sha256 = ?", sha256)
        return _stored(rows[0]) if rows else None

    def path(self, sha256: bytes) -> Path:
        """Where a whole layer lies."""
        return self._folder / f"{sha256.hex()}.safetensors"

    def whole(self, sha256: bytes) -> bool:
        """Whether a layer's file is here as it came, looked at before its first use after a start; a damaged one is
        removed."""
        path = self.path(sha256)
        if not path.is_file():
            return False
        if sha256 not in self._whole:
            if file_sha256(path) != sha256:
                warn("layer_damaged", f"{path} is damaged: its digest is another")
                path.unlink()
                return False
            self._whole.add(sha256)
        return True

    def begin(self, header: coordinator_pb2.LayerHeader) -> int:
        """Announce a checked layer and return how many of its bytes are here.

        The site's earlier layers that were not released give way.

        Raises MpleError: LAYER_REJECTED when the key's released layer is another, or these bytes were announced for
        another key.
        """
        site, epoch = header.key_ref.site, header.key_ref.epoch
        with self._lock, self._file.transaction() as connection:
            before, same = self.of_key(site, epoch), self.with_digest(header.sha256)
            if same is not None and same.header.key_ref != header.key_ref:
                who = "this site" if same.header.key_ref.site == site else "another site"
                text = f"{who} has announced a layer of the same bytes for another key"
                raise MpleError(ErrorCode.LAYER_REJECTED, text)
            if before is not None and before.released and before.header != header:
                raise MpleError(
                    ErrorCode.LAYER_REJECTED,
                    f"layer {before.header.sha256.hex()[:16]} of site {site} is already released, and this is another",
                )
            if before is None or before.header != header:
                for row in self._file.rows("SELECT sha256 FROM key_layers WHERE site = ? AND released = 0", site):
                    self._remove(as_bytes(row[0]))
                connection.execute("DELETE FROM key_layers WHERE site = ? AND released = 0", (site,))
                connection.execute(
                    "INSERT INTO key_layers VALUES (?, ?, ?, ?, 0)",
                    (site, epoch, header.sha256, header.SerializeToString(deterministic=True)),
                )
            return self._chunked(header).present

    def open_upload(self, site: str, sha256: bytes) -> Upload:
        """A writer for an announced layer; an older writer of the same layer can write no more.

        Raises MpleError: UNKNOWN_KEY_REF when the layer is not this site's, FILE_OFFSET when nobody announced it.
        """
        with self._lock:
            stored = self.with_digest(sha256)
            if stored is None:
                raise MpleError(ErrorCode.FILE_OFFSET, "this layer has not been announced; begin it first")
            if stored.header.key_ref.site != site:
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"the layer is not one of site {site}")
            upload = Upload(self, stored.header, self._chunked(stored.header))
            self._writer[sha256] = upload
            return upload

    @contextmanager
    def newest(self, upload: Upload) -> Iterator[None]:
        """Hold what is written of layers, for an upload that no newer one has taken the place of.

        Raises MpleError: FILE_OFFSET when one has, or when the layer gave way.
        """
        with self._lock:
            if self._writer.get(upload.header.sha256) is not upload:
                raise MpleError(ErrorCode.FILE_OFFSET, "another upload of this site's layer has begun")
            yield

    def adopt(self, header: coordinator_pb2.LayerHeader, path: Path) -> None:
        """Take in a layer file that the coordinator has built, in the layers' folder under any name."""
        self.begin(header)
        with self._lock:
            put_in_place(path, self.path(header.sha256))

    def building(self, site: str) -> Path:
        """Where the coordinator may build a site's layer before `adopt`."""
        return self._folder / f"{site}.building"

    def reject(self, sha256: bytes) -> None:
        """Delete a layer that did not pass review; its site may announce another."""
        with self._lock, self._file.transaction() as connection:
            connection.execute("DELETE FROM key_layers WHERE sha256 = ? AND released = 0", (sha256,))
            self._remove(sha256)

    def erase(self, site: str, epoch: int) -> int:
        """Delete the layer of a revoked key and return the size of its file, 0 when there was none."""
        with self._lock, self._file.transaction() as connection:
            stored = self.of_key(site, epoch)
            if stored is None:
                return 0
            path = self.path(stored.header.sha256)
            size = path.stat().st_size if path.exists() else 0
            connection.execute("DELETE FROM key_layers WHERE site = ? AND epoch = ?", (site, epoch))
            self._remove(stored.header.sha256)
            return size

    def mark_released(self, sha256: bytes) -> None:
        """Let the compute node have the layer.

        Raises MpleError: FILE_OFFSET when the layer gave way to another of its site.
        """
        with self._file.transaction() as connection:
            cursor = connection.execute(
                "UPDATE key_layers SET released = (SELECT MAX(released) + 1 FROM key_layers) "
                "WHERE sha256 = ? AND released = 0",
                (sha256,),
            )
            if cursor.rowcount != 1:
                raise gave_way()

    def first_released(self) -> StoredLayer | None:
        """Of the layers that are whole here, the one that was released before all others; `released` counts from 1."""
        rows = self._file.rows("SELECT header, released FROM key_layers WHERE released > 0 ORDER BY released")
        return next((stored for stored in map(_stored, rows) if self.whole(stored.header.sha256)), None)

    def released(self, sha256: bytes) -> StoredLayer:
        """A released layer. Raises MpleError: UNKNOWN_KEY_REF when it is none."""
        stored = self.with_digest(sha256)
        if stored is None or not stored.released:
            text = f"no released layer has the digest {sha256.hex()[:16]}; its key may be revoked"
            raise MpleError(ErrorCode.UNKNOWN_KEY_REF, text)
        return stored

    def chunks(self, sha256: bytes, offset: int) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        """A released layer's bytes from an offset, the last message marked.

        Raises MpleError: as `released` and `chunks_of`.
        """
        stored = self.released(sha256)
        for chunk in chunks_of(self.path(sha256), offset, stored.header.total_bytes):
            yield coordinator_pb2.DownloadLayerResponse(offset=chunk.offset, data=chunk.data, final=chunk.final)

    def _chunked(self, header: coordinator_pb2.LayerHeader) -> ChunkFile:
        self.whole(header.sha256)  # a damaged file is gone on with from its beginning
        return ChunkFile(self.path(header.sha256), header.total_bytes, header.sha256)

    def _remove(self, sha256: bytes) -> None:
        self._writer.pop(sha256, None)
        remove_file(self.path(sha256))


class Upload:
    """One stream of a layer's bytes, which may be overtaken by a newer one of the same layer."""

    def __init__(self, store: LayerStore, header: coordinator_pb2.LayerHeader, file: ChunkFile) -> None:
        self.header = header
        self._store, self._file = store, file

    def take(self, message: coordinator_pb2.UploadLayerRequest) -> None:
        """Keep one message's bytes. Raises MpleError: as `ChunkFile.take`, or `LayerStore.newest`."""
        with self._store.newest(self):
            self._file.take(message.offset, message.data, message.final)

    def finish(self) -> Path:
        """The whole file, its digest checked; other uploads go on meanwhile.

        Raises MpleError: as `ChunkFile.finish`, or `LayerStore.newest`.
        """
        # A whole file grows no more, and if it is removed before it gets its name, this upload is not the newest.
        return self._file.finish(self._store.newest(self))


def gave_way() -> MpleError:
    """What an upload is told whose layer its site has replaced by announcing another."""
    return MpleError(ErrorCode.FILE_OFFSET, "the site has announced another layer meanwhile; begin again")


def _stored(row: tuple[object, ...]) -> StoredLayer:
    return StoredLayer(coordinator_pb2.LayerHeader.FromString(as_bytes(row[0])), bool(row[1]))
