"""What a message is and how much of it is payload, for each kind of message."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from mple.meter import MessageFacts, MessageKind, measure
from mple.v1 import common_pb2, compute_pb2, coordinator_pb2

KEY_REF = common_pb2.KeyRef(site="north", epoch=2, fingerprint=bytes.fromhex("00ff10aa") + bytes(28))


def batch(split: common_pb2.Split) -> common_pb2.MorphedBatch:
    return common_pb2.MorphedBatch(key_ref=KEY_REF, split=split, samples=3, codes=bytes(912), labels=bytes(6))


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        (
            compute_pb2.FeedRequest(batch=batch(common_pb2.SPLIT_TRAIN)),
            MessageFacts(MessageKind.DATA, 912, 6, 3, "north:2:00ff10aa"),
        ),
        (
            compute_pb2.FeedRequest(batch=batch(common_pb2.SPLIT_TEST)),
            MessageFacts(MessageKind.TEST_DATA, 912, 6, 3, "north:2:00ff10aa"),
        ),
        (compute_pb2.FeedRequest(score=compute_pb2.Score(samples=9)), MessageFacts(MessageKind.SCORE, samples=9)),
        (compute_pb2.FeedRequest(hello=compute_pb2.FeedHello(plan_sha256=bytes(32))), MessageFacts(MessageKind.SETUP)),
        (compute_pb2.FeedRequest(), MessageFacts(MessageKind.SETUP)),
        (compute_pb2.FeedRequest(basis=compute_pb2.KeyBasis(data=bytes(300))), MessageFacts(MessageKind.BASIS, 300)),
        (compute_pb2.FeedResponse(basis_wanted=compute_pb2.BasisWanted()), MessageFacts(MessageKind.EVENT)),
        (
            compute_pb2.FeedResponse(samples=compute_pb2.SampleRequest(sample_ids=[7, 300, 2])),
            MessageFacts(MessageKind.REQUEST, samples=3),
        ),
        (
            compute_pb2.FeedResponse(logits=compute_pb2.Logits(sample_ids=[1, 2], values=bytes(80))),
            MessageFacts(MessageKind.LOGITS, 80, samples=2),
        ),
        (compute_pb2.FeedResponse(done=compute_pb2.FeedDone()), MessageFacts(MessageKind.EVENT)),
        (
            compute_pb2.PredictRequest(batch=batch(common_pb2.SPLIT_UNSPECIFIED)),
            MessageFacts(MessageKind.PREDICT, 912, 6, 3, "north:2:00ff10aa"),
        ),
        (compute_pb2.PredictResponse(values=bytes(40)), MessageFacts(MessageKind.PREDICT, 40)),
        (coordinator_pb2.UploadLayerRequest(data=bytes(500)), MessageFacts(MessageKind.LAYER, 500)),
        (coordinator_pb2.DownloadLayerResponse(data=bytes(500)), MessageFacts(MessageKind.LAYER, 500)),
        (coordinator_pb2.JoinRequest(protocol_version=1), MessageFacts(MessageKind.SETUP)),
        (coordinator_pb2.PutSealedRequest(envelope=bytes(113)), MessageFacts(MessageKind.SETUP)),
        (coordinator_pb2.WatchResponse(sequence=1), MessageFacts(MessageKind.EVENT)),
        (coordinator_pb2.ReportRequest(), MessageFacts(MessageKind.REPORT)),
        (health_pb2.HealthCheckRequest(), MessageFacts(MessageKind.OTHER)),
    ],
    ids=lambda value: value.DESCRIPTOR.name if isinstance(value, Message) else value.kind,
)
def test_facts_of_a_message(message: Message, facts: MessageFacts) -> None:
    assert measure(message) == facts


def test_payload_is_never_more_than_the_message() -> None:
    message = compute_pb2.FeedRequest(batch=batch(common_pb2.SPLIT_TRAIN))
    facts = measure(message)
    assert facts.payload_bytes + facts.label_bytes < message.ByteSize()
