"""What a message is and how much of it is payload. Reads fields only; never serialises anything again.

`measure` knows the product's messages. Whoever has messages of its own hands channels and servers another `Measure`,
which names kinds of its own; ledgers take any word for a kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from google.protobuf.message import Message

from mple.printable import printable
from mple.v1 import common_pb2, compute_pb2

_MOST_NAME = 63
"""Characters of a site's or layer's name; what a message says beyond them goes into nobody's ledger."""


class MessageKind(StrEnum):
    """What a message of the product is for."""

    DATA = "data"
    """Morphed training samples."""
    VAL_DATA = "val_data"
    """Morphed validation samples."""
    TEST_DATA = "test_data"
    """Morphed test samples."""
    LAYER = "layer"
    BASIS = "basis"
    """What a key's coefficients are written in, on its way to the compute node."""
    SETUP = "setup"
    """Joining, plan hash checks, stem, sealed envelopes."""
    REQUEST = "request"
    LOGITS = "logits"
    SCORE = "score"
    EVENT = "event"
    REPORT = "report"
    NETWORK = "network"
    """The trained trunk, on its way to the sites."""
    PREDICT = "predict"
    CONTROL = "control"
    """Diagnoses of the link."""
    OTHER = "other"
    """Health checks and whatever is not ours."""


SAMPLE_KINDS = (MessageKind.DATA, MessageKind.VAL_DATA, MessageKind.TEST_DATA)
"""Morphed samples of a run, of every split."""


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """Of one message; the rest of its bytes are fields around the payload."""

    kind: str
    """A `MessageKind`, or a word of whoever measures other messages."""
    payload_bytes: int = 0
    """Codes, bytes of a layer, a basis or a network, or logits."""
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
        f"{printable(ref.site, _MOST_NAME)}:{ref.epoch}:{ref.fingerprint[:4].hex()}",
        batch.resent_samples,
    )


_KIND_OF_SPLIT = {common_pb2.SPLIT_VAL: MessageKind.VAL_DATA, common_pb2.SPLIT_TEST: MessageKind.TEST_DATA}


def _feed_request(message: compute_pb2.FeedRequest) -> MessageFacts:
    which = message.WhichOneof("message")
    if which == "batch":
        return _batch(message.batch, _KIND_OF_SPLIT.get(message.batch.split, MessageKind.DATA))
    if which == "score":
        return MessageFacts(MessageKind.SCORE, samples=message.score.samples)
    if which == "basis":
        return MessageFacts(MessageKind.BASIS, len(message.basis.data))
    return MessageFacts(MessageKind.SETUP)


def _feed_response(message: compute_pb2.FeedResponse) -> MessageFacts:
    which = message.WhichOneof("message")
    if which == "samples":
        return MessageFacts(MessageKind.REQUEST, samples=len(message.samples.sample_ids))
    if which == "logits":
        return MessageFacts(MessageKind.LOGITS, len(message.logits.values), samples=len(message.logits.sample_ids))
    return MessageFacts(MessageKind.EVENT)


def _chunk(kind: MessageKind) -> Callable[[Any], MessageFacts]:
    return lambda message: MessageFacts(kind, len(message.data))


def _always(kind: MessageKind) -> Callable[[Any], MessageFacts]:
    facts = MessageFacts(kind)
    return lambda _message: facts


_SETUP_CALLS = ("Join", "OfferStem", "GetStem", "PutSealed", "GetSealed", "BeginLayer", "RotateKey", "RevokeKey")
_KINDS = dict.fromkeys(_SETUP_CALLS, MessageKind.SETUP) | {
    "Watch": MessageKind.EVENT,
    "Report": MessageKind.REPORT,
    "Probe": MessageKind.CONTROL,
}
"""Of calls whose messages carry no payload."""
_READERS: dict[str, Callable[[Any], MessageFacts]] = {
    "mple.v1.FeedRequest": _feed_request,
    "mple.v1.FeedResponse": _feed_response,
    "mple.v1.PredictRequest": lambda message: _batch(message.batch, MessageKind.PREDICT),
    "mple.v1.PredictResponse": lambda message: MessageFacts(MessageKind.PREDICT, len(message.values)),
    "mple.v1.UploadLayerRequest": _chunk(MessageKind.LAYER),
    "mple.v1.UploadLayerResponse": _always(MessageKind.SETUP),
    "mple.v1.DownloadLayerRequest": _always(MessageKind.SETUP),
    "mple.v1.DownloadLayerResponse": _chunk(MessageKind.LAYER),
    "mple.v1.DownloadNetworkRequest": _always(MessageKind.SETUP),
    "mple.v1.DownloadNetworkResponse": _chunk(MessageKind.NETWORK),
    **{f"mple.v1.{call}{end}": _always(kind) for call, kind in _KINDS.items() for end in ("Request", "Response")},
}
