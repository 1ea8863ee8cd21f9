"""The count on paper: against hand-made sums, and against what real messages take."""

from __future__ import annotations

import pytest

from comparison.expected_bytes import (
    Content,
    gazelle_contents,
    minionn_contents,
    phase_bytes,
    plain_contents,
)
from comparison.garbled import relu_circuit
from comparison.networks import small_network
from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import FRAME_BYTES, Link, Outbox
from comparison.two_party.network_form import form_of
from comparison.v1 import two_party_pb2
from mple.meter.ledger import GRPC_PREFIX_BYTES

FORM = form_of(small_network())
MODULUS = small_network().modulus
SIZES = [0, 1, 127, 128, 20_000, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("part", "inferences"), [("", 0), ("conv1", 1)])
def test_a_contents_frames_are_counted_to_the_byte(size: int, part: str, inferences: int) -> None:
    outbox: Outbox[two_party_pb2.ExchangeRequest] = Outbox()
    link = Link(outbox, iter(()), two_party_pb2.ExchangeRequest, lambda: None)
    link.send(Phase.ONLINE, part, Kind.LABELS, bytes(size), inferences=inferences)
    link.finish()
    sent = sum(message.ByteSize() + GRPC_PREFIX_BYTES for message in outbox)
    content = Content(
        phase=Phase.ONLINE, part=part, kind=Kind.LABELS, up=True, content_bytes=size, inferences=inferences
    )
    assert content.framed_bytes == sent


def test_garbled_tables_are_32_bytes_an_and() -> None:
    tables = [c for c in gazelle_contents(FORM, 1) if c.kind is Kind.GARBLED]
    assert [c.part for c in tables] == ["conv1", "conv2"]
    ands = relu_circuit(MODULUS, FORM.stages[1].shift or 0).circuit.ands
    assert tables[1].content_bytes == 96 * ands * 32 + 16 + 96 * 20 // 8


def test_labels_are_16_bytes_for_each_bit_and_corrections_one_bit() -> None:
    for contents, evaluator_up in ((gazelle_contents(FORM, 1), True), (minionn_contents(FORM, 1), False)):
        online = [c for c in contents if c.phase is Phase.ONLINE and c.part == "conv1"]
        labels = [c for c in online if c.kind is Kind.LABELS]
        corrections = [c for c in online if c.kind is Kind.TRANSFER]
        # 64 instances of 4 values of 20 bits
        assert [(c.content_bytes, c.up) for c in labels] == [(64 * 4 * 20 * 16, not evaluator_up)]
        assert [(c.content_bytes, c.up) for c in corrections] == [(64 * 4 * 20 // 8, evaluator_up)]


def test_set_up_is_once_and_the_rest_for_each_inference() -> None:
    one, five = (phase_bytes(gazelle_contents(FORM, count)) for count in (1, 5))
    assert one[Phase.SETUP] == five[Phase.SETUP]
    assert 5 * one[Phase.OFFLINE] == five[Phase.OFFLINE]
    assert 5 * one[Phase.ONLINE] == five[Phase.ONLINE]


def test_minionn_sends_no_ciphertext_online_and_gazelle_none_offline() -> None:
    assert {c.phase for c in minionn_contents(FORM, 1) if c.kind is Kind.CIPHERTEXT} == {Phase.OFFLINE}
    assert {c.phase for c in gazelle_contents(FORM, 1) if c.kind is Kind.CIPHERTEXT} == {Phase.ONLINE}


def test_plain_upload_is_the_picture_and_the_logits() -> None:
    assert [(c.up, c.content_bytes) for c in plain_contents(FORM, 1)] == [(True, 192), (False, 20)]
