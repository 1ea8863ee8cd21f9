"""What a site answers requests for samples with: one morphing and one release book, for the streams of all ranks.

A rank of the compute node gets what the plan gives it, and nothing of another's. So each rank's own count of what it
has received can be held against the book's of just those samples.
"""

import threading
from collections.abc import Mapping

import numpy as np

from mple.audit import audit
from mple.per_node import IN_TURN
from mple.plan import RunPlan
from mple.plan.sample_numbering import SampleNumbering
from mple.rpc import ErrorCode, MpleError
from mple.rpc.identity import rank_label
from mple.v1 import common_pb2, compute_pb2
from mple.wire.batch import batch_to_message, samples_per_message
from mple.wire.codecs import codec_named
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.release_book import ReleaseBook, ReleaseError


class SiteSamples:
    """Morphed samples within the plan, for any number of streams; one answer is made at a time."""

    def __init__(self, plan: RunPlan, key_ref: common_pb2.KeyRef, images: MorphedImages, releases: ReleaseBook) -> None:
        """Answer requests.

        Args:
            plan: The run's plan.
            key_ref: Of the key that `images` are morphed under; its site is this one.
            images: The site's pictures.
            releases: Counts what leaves.
        """
        self._plan, self._releases = plan, releases
        self._morphing = (key_ref, images)
        self._answering = threading.Lock()
        self._starts = _starts(plan, key_ref.site)
        self._per_request = samples_per_message(
            plan.wire.message_bytes,
            codec_named(plan.wire.codec).planned_bytes(plan.geometry),
        )

    def use(self, key_ref: common_pb2.KeyRef, images: MorphedImages) -> None:
        """Morph under another key from the next answer on, whichever stream it is for."""
        self._morphing = (key_ref, images)

    @property
    def key_epoch(self) -> int:
        """Of the key in use."""
        return self._morphing[0].epoch

    def answer(self, request: compute_pb2.SampleRequest, rank: int) -> common_pb2.MorphedBatch:
        """The samples that a rank asks for.

        Raises MpleError: MESSAGE_MALFORMED, SAMPLE_NOT_PLANNED or RELEASE_LIMIT when the plan does not allow it;
        DamagedError: the rank has received more than is counted; OSError: the disk refuses.
        """
        if len(request.sample_ids) > self._per_request:
            raise MpleError(
                ErrorCode.MESSAGE_MALFORMED,
                f"a request for {len(request.sample_ids)} samples; under the plan a message holds {self._per_request}",
            )
        with self._answering, IN_TURN:
            witness = f"{rank_label(f'compute/{self._plan.compute}', rank)} has received"
            self._releases.require(request.received_samples, witness, self._share(rank))
            try:
                self._require_own(request, rank)
                resent = self._releases.release(request.split, request.sample_ids)
            except ReleaseError as fault:
                code = ErrorCode.RELEASE_LIMIT if fault.limit else ErrorCode.SAMPLE_NOT_PLANNED
                audit(f"compute/{self._plan.compute}", "release_refused", code, detail=str(fault))
                raise MpleError(code, str(fault)) from None
            key_ref, images = self._morphing
            return batch_to_message(
                images.batch(request.split, request.sample_ids),
                request_id=request.request_id,
                key_ref=key_ref,
                split=request.split,
                codec=images.codec,
                resent_samples=resent,
            )

    def _share(self, rank: int) -> Mapping[common_pb2.Split, slice]:
        """Places of a rank's samples within the site's splits."""
        ranks = self._plan.training.ranks
        return {split: slice((rank - start) % ranks, None, ranks) for split, start in self._starts.items()}

    def _require_own(self, request: compute_pb2.SampleRequest, rank: int) -> None:
        ids, ranks = np.asarray(request.sample_ids, np.int64), self._plan.training.ranks
        owners = (ids + self._starts.get(request.split, 0)) % ranks
        if (owners != rank).any():
            place = int((owners != rank).argmax())
            text = f"rank {rank} asked for sample {ids[place]}, which the plan gives to rank {owners[place]}"
            raise ReleaseError(text, limit=False)


def _starts(plan: RunPlan, site: str) -> dict[common_pb2.Split, int]:
    """The number of the site's first sample in each split."""
    images = {
        common_pb2.SPLIT_TRAIN: {one.name: one.train_images for one in plan.sites},
        common_pb2.SPLIT_VAL: {one.name: one.val_images for one in plan.sites},
        common_pb2.SPLIT_TEST: {one.name: one.test_images for one in plan.sites},
    }
    return {split: SampleNumbering(of).span(site).start for split, of in images.items()}
