"""The ledger against the wire: what the relay counts is the ledgers' total and the known framing, to within 1 %."""

from __future__ import annotations

import pytest

from mple.meter.relay import CountingRelay
from mple.report.waterfall import link_framing
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from tests.support.served import Served

BATCHES = 24
CODE_BYTES = 512 * 1024
SAMPLES = 170_000
"""Answered by as many sample numbers of up to three bytes each: the downlink is about as full as the uplink."""


def batch(number: int) -> compute_pb2.FeedRequest:
    key_ref = common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(32))
    return compute_pb2.FeedRequest(
        batch=common_pb2.MorphedBatch(request_id=number, key_ref=key_ref, samples=SAMPLES, codes=bytes(CODE_BYTES))
    )


def test_ledgers_explain_what_crossed_the_port(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(address=relay.address))
    answers = list(stub.Feed((batch(number) for number in range(BATCHES)), timeout=60))
    assert len(answers) == BATCHES
    totals = served.ledgers_of("site-north").totals()
    served.close()
    relay.close()
    for framed, crossed in ((totals.bytes_sent, relay.bytes_up), (totals.bytes_received, relay.bytes_down)):
        assert framed > 8_000_000
        assert framed < crossed, "the ledgers can't hold more than what crossed"
        assert framed == pytest.approx(crossed, rel=0.01)
        known = link_framing([(framed // BATCHES, BATCHES)]).total_bytes
        assert framed + known == pytest.approx(crossed, rel=0.002)
