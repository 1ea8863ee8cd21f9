"""One session of two parties: greeting, set-up, and inferences one after the other, each phase ended by both together.

A method has two halves with the same three steps: `set_up` once, `offline` before each picture, `online` with it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.stopwatch import Stopwatch
from mple.disk.json_records import record_from_json, record_to_json
from mple.rpc import ErrorCode, MpleError

PROTOCOL_VERSION = 1
_MOST_INFERENCES = 1_000_000
_MOST_GREETING_BYTES = 64 * 1024


class Method(StrEnum):
    """Ways to an inference."""

    PLAIN = "plain"
    """The picture as it is."""
    COMPACT = "compact"
    """MpLe, tiles with one core."""
    PAPER = "paper"
    """MpLe, one dense core, as in the papers."""
    GAZELLE = "gazelle"
    MINIONN = "minionn"

    @property
    def morphed(self) -> bool:
        """Whether it is MpLe."""
        return self in (Method.COMPACT, Method.PAPER)


class ClientHalf(Protocol):
    """What the party with the picture does."""

    def set_up(self) -> None:
        """Once."""

    def offline(self) -> None:
        """Before a picture is known."""

    def online(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The logits (K,) of a picture."""


class ServerHalf(Protocol):
    """What the party with the network does."""

    def set_up(self) -> None:
        """Once."""

    def offline(self) -> None:
        """Before a picture is known."""

    def online(self) -> None:
        """With a picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Greeting:
    """What the client begins with."""

    version: int
    method: Method
    inferences: int


def greet(link: Link, method: Method, inferences: int) -> PublicNetwork:
    """The client's first step: say what it wants, learn the network's form.

    Raises MpleError: the server does something else; ValueError: what it sent is no form of a network.
    """
    greeting = Greeting(version=PROTOCOL_VERSION, method=method, inferences=inferences)
    link.send(Phase.SETUP, "", Kind.CONTROL, record_to_json(greeting).encode())
    text = link.receive(Phase.SETUP, "", Kind.CONTROL, _MOST_GREETING_BYTES)
    return record_from_json(PublicNetwork, text, "the server's description of its network")


def answer_greeting(link: Link, method: Method, form: PublicNetwork) -> int:
    """The server's first step: check what the client wants, tell it the network's form; returns how many inferences.

    Raises MpleError: the client has another version or wants another method; ValueError: what it sent is no greeting.
    """
    text = link.receive(Phase.SETUP, "", Kind.CONTROL, _MOST_GREETING_BYTES)
    greeting = record_from_json(Greeting, text, "the client's greeting")
    if greeting.version != PROTOCOL_VERSION:
        raise MpleError(ErrorCode.PROTOCOL_VERSION, f"{greeting.version} here, {PROTOCOL_VERSION} at the server")
    if greeting.method is not method:
        why = f"method {greeting.method} was asked for; this server does {method}"
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, why)
    if not 1 <= greeting.inferences <= _MOST_INFERENCES:
        why = f"{greeting.inferences} inferences; allowed are 1 to {_MOST_INFERENCES}"
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, why)
    link.send(Phase.SETUP, "", Kind.CONTROL, record_to_json(form).encode())
    return greeting.inferences


def run_client(
    link: Link, half: ClientHalf, pictures_NCHW: NDArray[np.uint8], watch: Stopwatch
) -> list[NDArray[np.int64]]:
    """All of the client's session after the greeting; returns each picture's logits (K,)."""
    with watch.lap(Phase.SETUP, 0):
        half.set_up()
        _meet(link, Phase.SETUP, first=True)
    logits = []
    for number, pixels_CHW in enumerate(pictures_NCHW, 1):
        with watch.lap(Phase.OFFLINE, number):
            half.offline()
            _meet(link, Phase.OFFLINE, first=True)
        with watch.lap(Phase.ONLINE, number):
            logits.append(half.online(pixels_CHW))
    link.finish()
    link.require_end()
    return logits


def run_server(link: Link, half: ServerHalf, inferences: int, watch: Stopwatch) -> None:
    """All of the server's session after the greeting."""
    with watch.lap(Phase.SETUP, 0):
        half.set_up()
        _meet(link, Phase.SETUP, first=False)
    for number in range(1, inferences + 1):
        with watch.lap(Phase.OFFLINE, number):
            half.offline()
            _meet(link, Phase.OFFLINE, first=False)
        with watch.lap(Phase.ONLINE, number):
            half.online()
    link.require_end()
    link.finish()


def _meet(link: Link, phase: Phase, *, first: bool) -> None:
    """Both parties have done their part of a phase."""
    if first:
        link.send(phase, "", Kind.CONTROL, b"")
    link.receive(phase, "", Kind.CONTROL, 0)
    if not first:
        link.send(phase, "", Kind.CONTROL, b"")
