"""The ledger against the wire: what the relay counts is the books' total and the known framing, to within 1 %."""

from __future__ import annotations

import math

import pytest
from served import Served

from mple.meter import CountingRelay
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc

BATCHES = 24
CODE_BYTES = 512 * 1024
SAMPLES = 170_000
"""Answered by as many sample numbers of up to three bytes each: the downlink is about as full as the uplink."""
HTTP2_FRAME_BYTES, HTTP2_HEADER_BYTES = 16_384, 9
TLS_RECORD_BYTES, TLS_HEADER_BYTES = 16_384, 22
"""Header of 5 bytes, tag of 16, inner type of 1 (RFC 8446, section 5.2)."""


def known_framing(framed_bytes: int) -> int:
    """Bytes that HTTP/2 and TLS 1.3 put around a long stream, in frames and records of their usual largest size."""
    frames = math.ceil(framed_bytes / HTTP2_FRAME_BYTES) * HTTP2_HEADER_BYTES
    return frames + math.ceil((framed_bytes + frames) / TLS_RECORD_BYTES) * TLS_HEADER_BYTES


def batch(number: int) -> compute_pb2.FeedRequest:
    key_ref = common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(32))
    return compute_pb2.FeedRequest(
        batch=common_pb2.MorphedBatch(request_id=number, key_ref=key_ref, samples=SAMPLES, codes=bytes(CODE_BYTES))
    )


def test_books_explain_what_crossed_the_port(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(address=relay.address))
    answers = list(stub.Feed((batch(number) for number in range(BATCHES)), timeout=60))
    assert len(answers) == BATCHES
    totals = served.books_of("site-north").totals()
    served.close()
    relay.close()
    for framed, crossed in ((totals.bytes_sent, relay.bytes_up), (totals.bytes_received, relay.bytes_down)):
        assert framed > 8_000_000
        assert framed < crossed, "the books can't hold more than what crossed"
        assert framed == pytest.approx(crossed, rel=0.01)
        assert framed + known_framing(framed) == pytest.approx(crossed, rel=0.002)
