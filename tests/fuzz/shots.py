"""One call of a fuzzing campaign: raw messages over a real channel, and what came of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from mple.rpc import TlsFiles
from mple.rpc.errors import METADATA_KEY
from mple.rpc.settings import DIALLING_OPTIONS

DEADLINE_S = 20.0
_NO_MORE = 0.03
"""How long to wait for the answers of a stream that never ends by itself."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A call and the messages that it brings."""

    target: str
    """`coordinator`, `compute` or `site`."""
    phase: str
    """State that the target is in."""
    caller: str
    """Role and name of the party that calls."""
    method: str
    """As in the HTTP/2 path: /package.Service/Method."""
    messages: tuple[bytes, ...]
    reply: Callable[[bytes], list[bytes]] | None = field(default=None, compare=False)
    """Further messages for each answer, of streams that go both ways."""
    endless: bool = False
    """Whether the call ends only when the caller goes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    status: str
    """gRPC's status."""
    code: str
    """The catalogue's code, empty without one."""
    sent: tuple[bytes, ...]
    answers: int
    hung: bool
    """The deadline passed without a word of the server."""
    text: str


def dial(address: str, tls: TlsFiles) -> grpc.Channel:
    """A channel without ledger or serializers: whatever bytes are given travel as they are."""
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(), private_key=tls.key.read_bytes(), certificate_chain=tls.certificate.read_bytes()
    )
    return grpc.secure_channel(address, credentials, options=[*DIALLING_OPTIONS, ("grpc.use_local_subchannel_pool", 1)])


def fire(
    channel: grpc.Channel, shot: Shot, most_answers: int = 64, quiet_s: float = _NO_MORE, endless_s: float = _NO_MORE
) -> Outcome:
    """Make the call. Every kind of call is a stream of messages to the wire, so all are made as one.

    Args:
        channel: The caller's.
        shot: The call.
        most_answers: The call is broken off after so many.
        quiet_s: The caller ends its side when it has had nothing to answer for so long.
        endless_s: How long a stream lasts that never ends by itself.
    """
    outbox: queue.Queue[bytes | None] = queue.Queue()
    sent: list[bytes] = []
    for message in shot.messages:
        outbox.put(message)
    if shot.reply is None:
        outbox.put(None)

    def requests() -> Iterator[bytes]:
        while True:
            try:
                message = outbox.get(timeout=quiet_s)
            except queue.Empty:
                return  # whoever answers one thing with another is asked nothing more, and ends its side
            if message is None:
                return
            sent.append(message)
            yield message

    call = channel.stream_stream(shot.method)(requests(), timeout=endless_s if shot.endless else DEADLINE_S)
    answers, cut = 0, False
    try:
        for answer in call:
            answers += 1
            if shot.reply is not None:
                for message in shot.reply(answer) if answers < most_answers else []:
                    outbox.put(message)
            if answers >= most_answers:
                cut = call.cancel()
                break
    except grpc.RpcError:
        pass
    finally:
        outbox.put(None)
    code = dict(call.trailing_metadata() or ()).get(METADATA_KEY, "")
    late = call.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not code
    status = "CANCELLED" if cut else call.code().name
    if late and shot.endless:
        status = "OK"
    return Outcome(status, str(code), tuple(sent), answers, late and not shot.endless, call.details() or "")


class Watchdog:
    """Collects what no call may cause: exceptions that nobody has caught."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._before = threading.excepthook

    def __enter__(self) -> Watchdog:
        threading.excepthook = self._caught
        return self

    def __exit__(self, *_: object) -> None:
        threading.excepthook = self._before

    def _caught(self, args: threading.ExceptHookArgs) -> None:
        self.found.append(f"{args.thread.name if args.thread else '?'}: {args.exc_type.__name__}: {args.exc_value}")
