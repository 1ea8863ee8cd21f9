"""The site's stream to the compute node: it answers requests for samples and scores logits until it is told it's done.

Two threads: this one reads what the compute node sends and makes answers, gRPC's own thread sends them. Between them
lie few messages; when the link is slow morphing waits.
"""

from __future__ import annotations

import threading
from collections import deque

import grpc

from mple.audit import audit
from mple.node.stop import Stop
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from mple.wire.batch import batch_to_message, samples_per_message
from mple.wire.codecs import codec_named
from provider_node.delivery.receipt import NetworkReceipt
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.release_book import ReleaseBook, ReleaseError
from provider_node.feeding.scoring import LogitsError, SplitScoring

_QUEUED_MESSAGES = 4


class SiteFeed:
    """Answers the compute node's requests within the plan."""

    def __init__(
        self,
        plan: RunPlan,
        key_ref: common_pb2.KeyRef,
        images: MorphedImages,
        scoring: SplitScoring,
        releases: ReleaseBook,
        hello: compute_pb2.FeedHello | None = None,
        receipt: NetworkReceipt | None = None,
    ) -> None:
        """Feed nothing yet.

        Args:
            plan: The run's plan.
            key_ref: Of the key that `images` are morphed under.
            images: The site's pictures.
            scoring: Judges the network.
            releases: Counts what leaves.
            hello: How each stream opens; by default with the plan's digest alone.
            receipt: Takes the trained network in; None where none is to come.
        """
        self._hello = hello or compute_pb2.FeedHello(plan_sha256=plan.sha256())
        self._plan, self._releases, self._receipt = plan, releases, receipt
        self._morphing = (key_ref, images)
        self._epochs_used: set[int] = set()
        self._scoring = scoring
        self._codec = codec_named(plan.wire.codec)
        self._per_request = samples_per_message(
            plan.wire.message_bytes,
            self._codec.sample_bytes(blocks=plan.geometry.blocks, values=plan.geometry.morphed_elements),
        )

    def use(self, key_ref: common_pb2.KeyRef, images: MorphedImages) -> None:
        """Morph under another key from the next answer on."""
        self._morphing = (key_ref, images)

    @property
    def key_changed(self) -> bool:
        """Whether the newest stream has carried answers under another key than the present one."""
        return bool(self._epochs_used - {self._morphing[0].epoch})

    def run(self, stub: compute_pb2_grpc.ComputeServiceStub, stop: Stop) -> bool:
        """Feed over one stream; True when the compute node said that it is done, False when told to stop.

        Raises grpc.RpcError: the stream broke; MpleError: the compute node asked for what the plan does not allow, or
        ended the stream without a word.
        """
        self._epochs_used = set()
        self._scoring.forget_part()
        outbox = _Outbox()
        outbox.put(compute_pb2.FeedRequest(hello=self._hello))
        stream = stub.Feed(outbox)
        if not stream.add_callback(outbox.break_off):
            outbox.break_off()
        withdraw = stop.on_set(stream.cancel)
        done = False
        try:
            for response in stream:
                if done:
                    raise MpleError(ErrorCode.MESSAGE_MALFORMED, "the compute node goes on after it was done")
                if response.WhichOneof("message") == "done":
                    done = True
                    outbox.end()
                    continue
                if response.WhichOneof("message") == "network_ready" and self._receipt is not None:
                    received = self._receipt.receive(response.network_ready, stub, stop)
                    outbox.put(compute_pb2.FeedRequest(network_received=received))
                    continue
                outbox.put(self._answer(response))
        except grpc.RpcError:
            if done:
                return True
            if stop.is_set():
                return False
            raise
        finally:
            withdraw()
            stream.cancel()
            outbox.break_off()
        if not done:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, "the compute node ended the stream before it was done")
        return True

    def _answer(self, response: compute_pb2.FeedResponse) -> compute_pb2.FeedRequest:
        kind = response.WhichOneof("message")
        if kind == "logits":
            try:
                return compute_pb2.FeedRequest(score=self._scoring.take(response.logits))
            except LogitsError as fault:
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, str(fault)) from None
        if kind != "samples":
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a message of kind {kind} instead of a request")
        request = response.samples
        if len(request.sample_ids) > self._per_request:
            raise MpleError(
                ErrorCode.MESSAGE_MALFORMED,
                f"a request for {len(request.sample_ids)} samples; under the plan a message holds {self._per_request}",
            )
        self._releases.require(request.received_samples, f"compute/{self._plan.compute} has received")
        try:
            resent = self._releases.release(request.split, request.sample_ids)
        except ReleaseError as fault:
            code = ErrorCode.RELEASE_LIMIT if fault.limit else ErrorCode.SAMPLE_NOT_PLANNED
            audit(f"compute/{self._plan.compute}", "release_refused", code, detail=str(fault))
            raise MpleError(code, str(fault)) from None
        key_ref, images = self._morphing
        self._epochs_used.add(key_ref.epoch)
        message = batch_to_message(
            images.batch(request.split, request.sample_ids),
            request_id=request.request_id,
            key_ref=key_ref,
            split=request.split,
            codec=self._codec,
            resent_samples=resent,
        )
        return compute_pb2.FeedRequest(batch=message)


class _Outbox:
    """Messages on their way to gRPC's thread, which takes them by iterating; few at a time."""

    def __init__(self) -> None:
        self._messages: deque[compute_pb2.FeedRequest] = deque()
        self._changed = threading.Condition()
        self._ended = self._broken = False

    def put(self, message: compute_pb2.FeedRequest) -> None:
        """Add a message as soon as there is room; a stream that has broken takes none any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._messages) < _QUEUED_MESSAGES or self._broken)
            self._messages.append(message)
            self._changed.notify_all()

    def end(self) -> None:
        """No message comes behind those that are here."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self) -> None:
        """The stream is over: nobody waits here any more; a second call does nothing."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def __iter__(self) -> _Outbox:
        return self

    def __next__(self) -> compute_pb2.FeedRequest:
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._ended or self._broken)
            if self._broken or not self._messages:
                raise StopIteration
            self._changed.notify_all()
            return self._messages.popleft()
