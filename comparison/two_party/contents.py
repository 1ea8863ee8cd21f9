"""What two parties send each other, by phase, part and kind: on the wire, in the words of faults, in ledgers. Pure."""

from enum import StrEnum
from typing import TypeAlias

from google.protobuf.message import Message

from comparison.v1 import two_party_pb2
from mple.meter import MessageFacts, MessageKind
from mple.meter import measure as measure_of_the_product

Exchanged: TypeAlias = two_party_pb2.ExchangeRequest | two_party_pb2.ExchangeResponse
_MOST_NAME = 63
"""Characters of a part's name; what a peer says beyond them goes into nobody's ledgers and words."""


class Phase(StrEnum):
    """When in a protocol something is sent."""

    SETUP = "setup"
    """Once, however many inferences follow."""
    OFFLINE = "offline"
    """For each inference, before its picture is known."""
    ONLINE = "online"
    """From the picture on."""


class Kind(StrEnum):
    """What a content is; ledgers have the same words."""

    KEYS = "keys"
    """Public keys of a lattice encryption."""
    CIPHERTEXT = "ciphertext"
    GARBLED = "garbled"
    """Tables of garbled circuits."""
    LABELS = "labels"
    """Labels of garbled circuits' inputs."""
    TRANSFER = "transfer"
    """Oblivious transfer."""
    SHARE = "share"
    """Additive shares."""
    PICTURE = "picture"
    """Pictures, plain or morphed."""
    LAYER = "layer"
    """An augmented layer, or the stem that it is built from."""
    LOGITS = "logits"
    CONTROL = "control"
    """Greetings, the network's public form, ends of phases."""


PHASE_NUMBERS: dict[Phase, two_party_pb2.TwoPartyPhase] = {
    phase: getattr(two_party_pb2, f"TWO_PARTY_PHASE_{phase.name}") for phase in Phase
}
KIND_NUMBERS: dict[Kind, two_party_pb2.TwoPartyKind] = {
    kind: getattr(two_party_pb2, f"TWO_PARTY_KIND_{kind.name}") for kind in Kind
}
_PHASES = {number: phase.value for phase, number in PHASE_NUMBERS.items()}
_KINDS = {number: kind.value for kind, number in KIND_NUMBERS.items()}


def measure(message: Message) -> MessageFacts:
    """The facts of a frame, its phase being `phase/part`; of any other message what the product says."""
    if not isinstance(message, Exchanged):
        return measure_of_the_product(message)
    frame = message.frame
    phase, part = _PHASES.get(frame.phase, ""), frame.part[:_MOST_NAME]
    return MessageFacts(
        _KINDS.get(frame.kind, MessageKind.OTHER),
        len(frame.data),
        samples=frame.inferences,
        phase=f"{phase}/{part}" if phase and part else phase,
    )


def named(frame: two_party_pb2.TwoPartyFrame) -> str:
    """A frame in words, `phase/part/kind`."""
    return f"{_PHASES.get(frame.phase, '?')}/{frame.part[:_MOST_NAME] or '-'}/{_KINDS.get(frame.kind, '?')}"
