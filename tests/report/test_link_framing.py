"""HTTP/2 and TLS as computed: by hand for single messages, and against what a relay saw cross a real port."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from mple.meter.relay import CountingRelay
from mple.report.waterfall import LinkFraming, link_framing
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from tests.support.served import Served


@pytest.mark.parametrize(
    ("framed", "http2", "tls"),
    [
        (5, 9, 22),
        (16_375, 9, 22),
        (16_384, 9, 2 * 22),  # the frame's header no longer fits into the record
        (16_385, 2 * 9, 2 * 22),
        (524_288, 32 * 9, 33 * 22),
    ],
)
def test_one_message(framed: int, http2: int, tls: int) -> None:
    assert link_framing([(framed, 1)]) == LinkFraming(http2_bytes=http2, tls_bytes=tls)


def test_many_messages_are_so_many_times_one() -> None:
    one, other = link_framing([(100, 1)]), link_framing([(40_000, 1)])
    assert link_framing([(100, 7), (40_000, 2)]).total_bytes == 7 * one.total_bytes + 2 * other.total_bytes
    assert link_framing([]).total_bytes == 0


def test_it_explains_what_crossed_a_port(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    relay = CountingRelay(host, int(port))
    stub = compute_pb2_grpc.ComputeServiceStub(served.dial(address=relay.address))
    key_ref = common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(32))
    batch = compute_pb2.FeedRequest(batch=common_pb2.MorphedBatch(key_ref=key_ref, samples=9, codes=bytes(512 * 1024)))
    assert len(list(stub.Feed((batch for _ in range(16)), timeout=60))) == 16
    ledgers = served.ledgers_of("site-north")
    served.close()
    relay.close()
    with closing(sqlite3.connect(served.folder / "site-north.sqlite")) as ledger:
        sent = ledger.execute(
            "SELECT framed_bytes, COUNT(*) FROM messages WHERE direction = 'sent' GROUP BY 1"
        ).fetchall()
    framed = ledgers.totals().bytes_sent
    assert sum(size * count for size, count in sent) == framed
    assert framed + link_framing(sent).total_bytes == pytest.approx(relay.bytes_up, rel=0.002)
