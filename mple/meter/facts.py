"""What a message is and how much of it is payload. Reads fields only; never serialises anything again.

`measure` knows the product's messages. Whoever has messages of its own hands channels and servers another `Measure`,
which names kinds of its own; ledgers take any word for a kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from google.protobuf.message import Message

from mple.v1 import common_pb2, compute_pb2, coordinator_pb2, node_pb2

_MOST_NAME = 63
"""Characters of a site's or layer's name; what a message says beyond them goes into nobody's ledger."""


class MessageKind(StrEnum):
    """What a message of the product is for."""

    DATA = "data"
    """Morphed training samples."""
    TEST_DATA = "test_data"
    """Morphed test samples."""
    LAYER = "layer"
    SETUP = "setup"
    """Joining, plan hash checks, stem, sealed envelopes."""
    REQUEST = "request"
    LOGITS = "logits"
    SCORE = "score"
    EVENT = "event"
    REPORT = "report"
    PREDICT = "predict"
    CONTROL = "control"
    """Diagnoses of the link."""
    OTHER = "other"
    """Health checks and whatever is not ours."""


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """Of one message; the rest of its bytes are fields around the payload."""

    kind: str
    """A `MessageKind`, or a word of whoever measures other messages."""
    payload_bytes: int = 0
    """Codes, layer bytes, or logits."""
    label_bytes: int = 0
    samples: int = 0
    key_ref: str = ""
    """site:epoch:first 8 digits of the fingerprint."""
    resent_samples: int = 0
    """Those of `samples` that the site had sent before."""
    phase: str = ""
    """Where the message itself says it; empty where it is the node's phase."""


Measure: TypeAlias = Callable[[Message], MessageFacts]


def measure(message: Message) -> MessageFacts:
    """The facts of any message; types that are not ours are OTHER."""
    reader = _READERS.get(message.DESCRIPTOR.full_name)
    return reader(message) if reader is not None else MessageFacts(MessageKind.OTHER)


def covered_types() -> frozenset[str]:
    """Full names of the message types that `measure` knows."""
    return frozenset(_READERS)


def _batch(batch: common_pb2.MorphedBatch, kind: MessageKind) -> MessageFacts:
    ref = batch.key_ref
    return MessageFacts(
        kind,
        len(batch.codes),
        len(batch.labels),
        batch.samples,
        f"{ref.site[:_MOST_NAME]}:{ref.epoch}:{ref.fingerprint[:4].hex()}",
        batch.resent_samples,
    )


def _feed_request(message: compute_pb2.FeedRequest) -> MessageFacts:
    which = message.WhichOneof("message")
    if which == "batch":
        test = message.batch.split == common_pb2.SPLIT_TEST
        return _batch(message.batch, MessageKind.TEST_DATA if test else MessageKind.DATA)
    if which == "score":
        return MessageFacts(MessageKind.SCORE, samples=message.score.samples)
    return MessageFacts(MessageKind.SETUP)


def _feed_response(message: compute_pb2.FeedResponse) -> MessageFacts:
    which = message.WhichOneof("message")
    if which == "samples":
        return MessageFacts(MessageKind.REQUEST, samples=len(message.samples.sample_ids))
    if which == "logits":
        return MessageFacts(MessageKind.LOGITS, len(message.logits.values), samples=len(message.logits.sample_ids))
    return MessageFacts(MessageKind.EVENT)


def _layer_chunk(message: Any) -> MessageFacts:
    return MessageFacts(MessageKind.LAYER, len(message.data))


def _predict_request(message: compute_pb2.PredictRequest) -> MessageFacts:
    return _batch(message.batch, MessageKind.PREDICT)


def _predict_response(message: compute_pb2.PredictResponse) -> MessageFacts:
    return MessageFacts(MessageKind.PREDICT, len(message.values))


def _always(kind: MessageKind) -> Callable[[Any], MessageFacts]:
    facts = MessageFacts(kind)
    return lambda _message: facts


_READERS: dict[str, Callable[[Any], MessageFacts]] = {
    compute_pb2.FeedRequest.DESCRIPTOR.full_name: _feed_request,
    compute_pb2.FeedResponse.DESCRIPTOR.full_name: _feed_response,
    compute_pb2.PredictRequest.DESCRIPTOR.full_name: _predict_request,
    compute_pb2.PredictResponse.DESCRIPTOR.full_name: _predict_response,
    coordinator_pb2.UploadLayerRequest.DESCRIPTOR.full_name: _layer_chunk,
    coordinator_pb2.DownloadLayerResponse.DESCRIPTOR.full_name: _layer_chunk,
    **{
        message.DESCRIPTOR.full_name: _always(kind)
        for kind, messages in {
            MessageKind.SETUP: (
                coordinator_pb2.JoinRequest,
                coordinator_pb2.JoinResponse,
                coordinator_pb2.OfferStemRequest,
                coordinator_pb2.OfferStemResponse,
                coordinator_pb2.GetStemRequest,
                coordinator_pb2.GetStemResponse,
                coordinator_pb2.PutSealedRequest,
                coordinator_pb2.PutSealedResponse,
                coordinator_pb2.GetSealedRequest,
                coordinator_pb2.GetSealedResponse,
                coordinator_pb2.BeginLayerRequest,
                coordinator_pb2.BeginLayerResponse,
                coordinator_pb2.UploadLayerResponse,
                coordinator_pb2.DownloadLayerRequest,
                coordinator_pb2.RotateKeyRequest,
                coordinator_pb2.RotateKeyResponse,
                coordinator_pb2.RevokeKeyRequest,
                coordinator_pb2.RevokeKeyResponse,
            ),
            MessageKind.EVENT: (coordinator_pb2.WatchRequest, coordinator_pb2.WatchResponse),
            MessageKind.REPORT: (coordinator_pb2.ReportRequest, coordinator_pb2.ReportResponse),
            MessageKind.CONTROL: (node_pb2.ProbeRequest, node_pb2.ProbeResponse),
        }.items()
        for message in messages
    },
}
