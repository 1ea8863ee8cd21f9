"""Contents over the link: cut into frames, named, bounded, in both parties' ledgers; faults said in words."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import FRAME_BYTES, Link, Sending, frames_of
from mple.meter.reconciliation import balance, merge
from mple.rpc import ErrorCode, MpleError
from mple.rpc.settings import RECEIVE_LIMIT_BYTES
from tests.support.linked import Pair
from tests.support.served import PartyTls

ONLINE, OFFLINE, SETUP = Phase.ONLINE, Phase.OFFLINE, Phase.SETUP


@pytest.fixture
def pair(tmp_path: Path, party_tls: PartyTls) -> Iterator[Pair]:
    one = Pair(tmp_path, party_tls)
    yield one
    one.close()


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 7])
def test_a_content_arrives_whole(pair: Pair, size: int) -> None:
    content = secrets.token_bytes(size)
    pair.serve(lambda link: link.send(OFFLINE, "conv1", Kind.GARBLED, link.receive(OFFLINE, "conv1", Kind.GARBLED)))
    pair.client.send(OFFLINE, "conv1", Kind.GARBLED, content)

    pieces = list(pair.client.receive_pieces(OFFLINE, "conv1", Kind.GARBLED))

    assert b"".join(pieces) == content
    assert len(pieces) == frames_of(size)
    assert max(map(len, pieces)) <= FRAME_BYTES < RECEIVE_LIMIT_BYTES


def test_buffers_follow_one_another_whatever_their_sizes(pair: Pair) -> None:
    buffers = [secrets.token_bytes(size) for size in (3, 0, FRAME_BYTES, 17, FRAME_BYTES // 2)]
    pair.serve(lambda link: link.send(ONLINE, "", Kind.LABELS, *buffers))
    pieces = list(pair.client.receive_pieces(ONLINE, "", Kind.LABELS))
    assert b"".join(pieces) == b"".join(buffers)
    assert len(pieces) == frames_of(sum(map(len, buffers)))


def test_another_content_than_is_due_is_refused(pair: Pair) -> None:
    pair.serve(lambda link: link.send(ONLINE, "conv2", Kind.LABELS, b"x"))
    with pytest.raises(MpleError, match="online/conv2/labels came where online/conv1/ciphertext was due") as refused:
        pair.client.receive(ONLINE, "conv1", Kind.CIPHERTEXT)
    assert refused.value.code is ErrorCode.MESSAGE_MALFORMED


def test_a_content_without_end_is_refused(pair: Pair) -> None:
    pair.serve(lambda link: link.send(ONLINE, "", Kind.SHARE, bytes(3 * FRAME_BYTES)))
    with pytest.raises(MpleError, match="has more than the 1000 bytes that were due"):
        pair.client.receive(ONLINE, "", Kind.SHARE, most_bytes=1000)
    pair.client.break_off()
    pair.join()


def test_what_the_server_refuses_is_told_to_the_client(pair: Pair) -> None:
    def refuse(link: Link) -> None:
        raise MpleError(ErrorCode.PROTOCOL_VERSION, "9 here")

    pair.serve(refuse)
    with pytest.raises(MpleError, match="9 here") as refused:
        pair.client.receive(SETUP, "", Kind.CONTROL)
    assert refused.value.code is ErrorCode.PROTOCOL_VERSION


def test_a_client_that_breaks_off_is_noticed(pair: Pair) -> None:
    pair.serve(lambda link: link.send(ONLINE, "", Kind.LOGITS, link.receive(ONLINE, "", Kind.PICTURE)))
    pair.client.break_off()
    pair.join()
    assert isinstance(pair.fault, MpleError)
    # gRPC may tell it as the end of the client's messages, too.
    assert re.search("(broke off|ended the call) where online/-/picture was due", str(pair.fault))


def test_an_end_where_something_is_due_is_an_error(pair: Pair) -> None:
    pair.serve(lambda _link: None)
    with pytest.raises(MpleError, match="ended the call where setup/-/keys was due"):
        pair.client.receive(SETUP, "", Kind.KEYS)


def test_something_where_the_end_is_due_is_an_error(pair: Pair) -> None:
    pair.serve(lambda link: link.send(SETUP, "", Kind.KEYS, b"late"))
    with pytest.raises(MpleError, match="setup/-/keys came where the end of the call was due"):
        pair.client.require_end()


def test_silence_has_an_end(tmp_path: Path, party_tls: PartyTls) -> None:
    pair = Pair(tmp_path, party_tls, idle_s=0.2)
    try:
        with pytest.raises(MpleError, match=r"no message came for 0\.2 s"):
            pair.client.receive(SETUP, "", Kind.KEYS)
    finally:
        pair.close()


def test_much_may_cross_both_ways_at_once(pair: Pair) -> None:
    """More than the outboxes hold, from both sides, none of which reads before it has begun to send."""
    large = secrets.token_bytes(30 * FRAME_BYTES)

    def both(link: Link) -> bytes:
        with Sending(link) as sending:
            sending.begin(lambda: link.send(OFFLINE, "", Kind.GARBLED, large))
            return link.receive(OFFLINE, "", Kind.GARBLED)

    received: list[bytes] = []
    pair.serve(lambda link: received.append(both(link)))
    assert both(pair.client) == large
    pair.join()
    assert received == [large]


def test_sending_raises_what_went_wrong(pair: Pair) -> None:
    pair.client.break_off()

    def send() -> None:
        with Sending(pair.client) as sending:
            sending.begin(lambda: pair.client.send(SETUP, "", Kind.KEYS, b"x"))

    with pytest.raises(MpleError, match="the call ended while there was more to send"):
        send()


def test_a_fault_while_sending_ends_what_waits_for_an_answer(pair: Pair) -> None:
    pair.serve(lambda link: link.require_end())

    def ask() -> None:
        with Sending(pair.client) as sending:
            sending.begin(lambda: int("no number"))  # type: ignore[arg-type]
            pair.client.receive(ONLINE, "", Kind.LABELS)

    with pytest.raises(ValueError, match="no number"):
        ask()
    pair.join()


def test_a_second_client_is_refused(pair: Pair) -> None:
    other = pair.dial_again()
    with pytest.raises(MpleError) as refused:
        other.receive(SETUP, "", Kind.CONTROL)
    assert refused.value.code is ErrorCode.DUPLICATE_STREAM


def test_ledgers_tell_phase_layer_and_kind_and_balance(pair: Pair, tmp_path: Path) -> None:
    pair.serve(lambda link: link.send(ONLINE, "", Kind.LOGITS, link.receive(ONLINE, "conv1", Kind.CIPHERTEXT)))
    pair.client.send(ONLINE, "conv1", Kind.CIPHERTEXT, bytes(2 * FRAME_BYTES), inferences=1)
    pair.client.receive(ONLINE, "", Kind.LOGITS)
    pair.client.finish()
    pair.join()
    pair.client.require_end()
    pair.close()

    merged = tmp_path / "merged.sqlite"
    merge([tmp_path / "server.sqlite", tmp_path / "client.sqlite"], merged)
    with closing(sqlite3.connect(merged)) as ledgers:
        rows = ledgers.execute(
            "SELECT phase, kind, direction, COUNT(*), SUM(payload_bytes), SUM(samples) FROM messages "
            "WHERE node = 'site/client' GROUP BY phase, kind, direction ORDER BY phase"
        ).fetchall()
    assert rows == [
        ("online", "logits", "received", 2, 2 * FRAME_BYTES, 0),
        ("online/conv1", "ciphertext", "sent", 2, 2 * FRAME_BYTES, 1),
    ]
    assert balance(merged).whole
