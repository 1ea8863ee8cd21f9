"""The site's stream to a rank of the compute node: it answers requests for samples until it is told it's done. Over the
stream to rank 0 it scores logits and takes the trained network in, too.

Two threads: this one reads what the compute node sends and makes answers, gRPC's own thread sends them. Between them
lie few messages; when the link is slow morphing waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import grpc

from mple.node.stop import Stop
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import CHUNK_BYTES
from mple.v1 import compute_pb2, compute_pb2_grpc
from provider_node.delivery.receipt import NetworkReceipt
from provider_node.feeding.scoring import LogitsError, SplitScoring
from provider_node.feeding.site_samples import SiteSamples

_QUEUED_MESSAGES = 4


class SiteFeed:
    """Answers the requests of one rank of the compute node within the plan."""

    def __init__(
        self,
        samples: SiteSamples,
        hello: compute_pb2.FeedHello,
        scoring: SplitScoring | None = None,
        receipt: NetworkReceipt | None = None,
        basis: bytes = b"",
    ) -> None:
        """Feed nothing yet.

        Args:
            samples: What it answers with.
            hello: How each stream opens; it names the rank.
            scoring: Judges the network; None where no logits are to come.
            receipt: Takes the trained network in; None where none is to come.
            basis: Of the site's key, where the compute node is to have it; the hello names its digest.
        """
        self._basis = basis
        self._samples, self._hello, self._scoring, self._receipt = samples, hello, scoring, receipt
        self._epochs_used: set[int] = set()

    @property
    def key_changed(self) -> bool:
        """Whether the newest stream has carried answers under another key than the present one."""
        return bool(self._epochs_used - {self._samples.key_epoch})

    def run(self, stub: compute_pb2_grpc.ComputeServiceStub, stop: Stop) -> bool:
        """Feed over one stream; True when the compute node said that it is done, False when told to stop.

        Raises grpc.RpcError: the stream broke; MpleError: the compute node asked for what the plan does not allow, or
        ended the stream without a word.
        """
        self._epochs_used = set()
        if self._scoring is not None:
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
                if response.WhichOneof("message") == "basis_wanted" and self._basis:
                    for message in _parts(self._basis):
                        outbox.put(compute_pb2.FeedRequest(basis=message))
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
        if kind == "logits" and self._scoring is not None:
            try:
                return compute_pb2.FeedRequest(score=self._scoring.take(response.logits))
            except LogitsError as fault:
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, str(fault)) from None
        if kind != "samples":
            text = f"a message of kind {kind} instead of a request, from rank {self._hello.rank}"
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
        batch = self._samples.answer(response.samples, self._hello.rank)
        self._epochs_used.add(batch.key_ref.epoch)
        return compute_pb2.FeedRequest(batch=batch)


def _parts(basis: bytes) -> Iterator[compute_pb2.KeyBasis]:
    for low in range(0, len(basis), CHUNK_BYTES):
        data = basis[low : low + CHUNK_BYTES]
        yield compute_pb2.KeyBasis(offset=low, data=data, final=low + len(data) == len(basis))


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
