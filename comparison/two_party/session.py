"""One session of two parties: greeting, set-up, and inferences one after the other, each phase ended by both together.

A method has two halves with the same three steps: `set_up` once, `offline` before each picture, `online` with it.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.stopwatch import Stopwatch
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


def greet(link: Link, method: Method, inferences: int) -> PublicNetwork:
    """The client's first step: say what it wants, learn the network's form.

    Raises:
        MpleError: The server has another version or method; the link broke.
        ValueError: What the server sent describes no network.
    """
    text = json.dumps({"version": PROTOCOL_VERSION, "method": method, "inferences": inferences})
    link.send(Phase.SETUP, "", Kind.CONTROL, text.encode())
    return PublicNetwork.from_json(link.receive(Phase.SETUP, "", Kind.CONTROL, _MOST_GREETING_BYTES))


def answer_greeting(link: Link, method: Method, form: PublicNetwork) -> int:
    """The server's first step: check what the client wants, tell it the network's form; returns how many inferences.

    Raises:
        MpleError: The client has another version or wants another method.
    """
    text = link.receive(Phase.SETUP, "", Kind.CONTROL, _MOST_GREETING_BYTES)
    try:
        raw = json.loads(text)
        version, wanted, inferences = raw["version"], raw["method"], raw["inferences"]
    except (ValueError, KeyError, TypeError):
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, "the client's greeting can't be read") from None
    if version != PROTOCOL_VERSION:
        raise MpleError(ErrorCode.PROTOCOL_VERSION, f"{version!r} here, {PROTOCOL_VERSION} at the server")
    if wanted != method:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"method {wanted!r} was asked for; this server does {method}")
    if not isinstance(inferences, int) or not 1 <= inferences <= _MOST_INFERENCES:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"{inferences!r} inferences; allowed are 1 to {_MOST_INFERENCES}")
    link.send(Phase.SETUP, "", Kind.CONTROL, form.to_json())
    return inferences


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
