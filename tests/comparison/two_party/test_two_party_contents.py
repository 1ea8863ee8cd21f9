"""What a frame is in a ledger, and that nothing which the two parties send is left out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.two_party.contents import KIND_NUMBERS, PHASE_NUMBERS, Exchanged, Kind, Phase, measure
from comparison.v1 import two_party_pb2
from mple.meter import Direction, Ledger, LedgerEntry, MessageFacts, MessageKind
from mple.meter.ledger import MessageClass, Tally
from mple.v1 import node_pb2

FRAME = two_party_pb2.TwoPartyFrame(
    phase=two_party_pb2.TWO_PARTY_PHASE_ONLINE,
    part="conv3",
    kind=two_party_pb2.TWO_PARTY_KIND_CIPHERTEXT,
    data=bytes(700),
    inferences=1,
)


@pytest.mark.parametrize("wrapped", [two_party_pb2.ExchangeRequest, two_party_pb2.ExchangeResponse])
def test_a_frame_is_entered_with_phase_layer_and_kind(wrapped: type[Exchanged]) -> None:
    assert measure(wrapped(frame=FRAME)) == MessageFacts(Kind.CIPHERTEXT, 700, samples=1, phase="online/conv3")


def test_what_belongs_to_no_layer_is_entered_under_its_phase() -> None:
    frame = two_party_pb2.TwoPartyFrame(
        phase=two_party_pb2.TWO_PARTY_PHASE_SETUP, kind=two_party_pb2.TWO_PARTY_KIND_KEYS, data=bytes(9)
    )
    assert measure(two_party_pb2.ExchangeRequest(frame=frame)) == MessageFacts(Kind.KEYS, 9, phase="setup")


def test_a_peers_long_words_do_not_go_into_the_ledger() -> None:
    frame = two_party_pb2.TwoPartyFrame(phase=two_party_pb2.TWO_PARTY_PHASE_SETUP, part="x" * 5000)
    assert measure(two_party_pb2.ExchangeRequest(frame=frame)).phase == "setup/" + 63 * "x"


def test_messages_of_the_product_are_measured_as_the_product_does() -> None:
    assert measure(node_pb2.ProbeRequest()) == MessageFacts(MessageKind.CONTROL)
    assert measure(two_party_pb2.ExchangeRequest()) == MessageFacts(MessageKind.OTHER)


def test_every_phase_and_kind_of_the_contract_has_its_word() -> None:
    for numbers, words, contract in (
        (PHASE_NUMBERS, Phase, two_party_pb2.TwoPartyPhase),
        (KIND_NUMBERS, Kind, two_party_pb2.TwoPartyKind),
    ):
        assert set(numbers) == set(words)
        assert {0, *numbers.values()} == set(contract.values())


def test_a_ledger_goes_on_with_kinds_that_the_product_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        with Ledger(path, "site/client") as ledger:
            facts = measure(two_party_pb2.ExchangeRequest(frame=FRAME))
            ledger.record(LedgerEntry(1, Direction.SENT, "compute/server", "Exchange", "a", 0, facts, 720))
            tallies = ledger.tallies()
    of = MessageClass("Exchange", "ciphertext", Direction.SENT, "compute/server")
    assert tallies == {of: Tally(messages=2, framed_bytes=1450, payload_bytes=1400, samples=2)}
