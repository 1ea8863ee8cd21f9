"""Where layers come in, are reviewed and go out: between the calls, the layer files and the run."""

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from coordinator.key_requests import usable_keys
from coordinator.layers.layer_review import LayerReview, ReferenceLayer
from coordinator.memory.layer_store import check_begin, gave_way
from coordinator.phases import LayerAccepted
from coordinator.run import Run
from coordinator.site_keys import RotationAccepted
from mple.disk.damage import DamagedError
from mple.plan import Custody
from mple.rpc import ErrorCode, MpleError, Party
from mple.v1 import coordinator_pb2


class LayerReleases:
    """The layers of a run on their way."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._review: LayerReview | None = None
        self._making = threading.Lock()
        self._wanted: set[bytes] = set()
        """Digests of layers that their sites were asked for again, since the start."""

    def begin(self, caller: Party, request: coordinator_pb2.BeginLayerRequest) -> int:
        """Take note of a site's layer and return how many of its bytes are here.

        Raises MpleError: as `coordinator.memory.layer_store.check_begin`, or WRONG_PHASE, RUN_FAILED.
        """
        self._run.require_unfailed()
        check_begin(self._run.plan, caller.name, request, usable_keys(self._run, caller.name))
        return self._run.layers.begin(request.header)

    def upload(self, caller: Party, messages: Iterator[coordinator_pb2.UploadLayerRequest]) -> None:
        """Take in the rest of an announced layer, review and release it.

        Raises MpleError: as `coordinator.memory.layer_store.Upload` and `release`, or RUN_FAILED.
        """
        self._run.require_unfailed()
        first = next(messages, None)
        if first is None:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, "the stream ended without a message")
        upload = self._run.layers.open_upload(caller.name, first.sha256)
        upload.take(first)
        for message in messages:
            upload.take(message)
        self.release(upload.header, upload.finish())

    def release(self, header: coordinator_pb2.LayerHeader, path: Path) -> None:
        """Review a whole layer and let the compute node have it; one that is released already stays so.

        Raises MpleError: LAYER_REJECTED; the layer is deleted then. FILE_OFFSET when its site has announced another
        meanwhile, KEY_CHANGE_REFUSED when a rotated key's layer comes too late.
        """
        run, review, site = self._run, self._reviewer(), header.key_ref.site
        with review.lock:
            stored = run.layers.with_digest(header.sha256)
            if stored is not None and stored.released:
                return
            try:
                review.check(site, path, self._reference())
            except FileNotFoundError:
                raise gave_way() from None
            except MpleError:
                run.layers.reject(header.sha256)
                raise
            with run.file.transaction():
                run.layers.mark_released(header.sha256)
                run.advance(_accepted(run, header))

    def download(
        self, request: coordinator_pb2.DownloadLayerRequest
    ) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        """A released layer's bytes from an offset.

        Raises MpleError: as `coordinator.memory.layer_store.LayerStore.chunks`; WRONG_PHASE when its file is damaged:
        its site has been asked for it again. DamagedError: likewise, in escrow custody: no site can.
        """
        stored = self._run.layers.released(request.sha256)
        if not self._run.layers.whole(request.sha256):
            self._want_again(stored.header)
        return self._run.layers.chunks(request.sha256, request.offset)

    def _want_again(self, header: coordinator_pb2.LayerHeader) -> NoReturn:
        run, site = self._run, header.key_ref.site
        if run.plan.custody is Custody.ESCROW:
            raise DamagedError(run.layers.path(header.sha256), f"holds the layer of {site}, and is gone or damaged")
        with self._making:
            if header.sha256 not in self._wanted:
                self._wanted.add(header.sha256)
                run.log.append(coordinator_pb2.WatchResponse(layer_wanted=coordinator_pb2.LayerWanted(header=header)))
        raise MpleError(ErrorCode.WRONG_PHASE, f"the layer of site {site} was damaged here and comes again")

    def _reviewer(self) -> LayerReview:
        with self._making:
            if self._review is None:
                self._review = LayerReview(self._run.plan, self._run.stem, self._probe())
            return self._review

    def _probe(self) -> bytes:
        file = self._run.file
        with file.transaction():
            probe = file.fact("probe") or secrets.token_bytes(32)
            file.keep_fact("probe", probe)
        return probe

    def _reference(self) -> ReferenceLayer | None:
        first = self._run.layers.first_released()
        if first is None:
            return None
        path = self._run.layers.path(first.header.sha256)
        return ReferenceLayer(first.header.key_ref.site, path, len(self._run.state().released))


def _accepted(run: Run, header: coordinator_pb2.LayerHeader) -> LayerAccepted | RotationAccepted:
    site, epoch = header.key_ref.site, header.key_ref.epoch
    if epoch == run.plan.site(site).key_epoch:
        return LayerAccepted(site)
    return RotationAccepted(site, epoch)
