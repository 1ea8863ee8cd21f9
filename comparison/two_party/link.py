"""The link between two parties: contents out and in, cut into frames, over one stream that is metered at both ends.

A content is what one party sends in one piece: the ciphertexts of a layer, say. It is sent as frames of at most 1 MiB,
each naming phase, layer and kind, and the receiver says what it waits for: parties that have come apart end with an
error that names both.

Bounded: at most `_AHEAD` frames wait to be sent and two are read ahead, whatever the contents' sizes. So a party whose
peer does not read comes to wait, and two that both send more than that and read nothing wait for each other for ever.
A party that has much to send while much comes in sends from a thread of its own; see `Sending`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeAlias, TypeVar

import grpc

from comparison.two_party.contents import KIND_NUMBERS, PHASE_NUMBERS, Exchanged, Kind, Phase, named
from comparison.v1 import two_party_pb2
from mple.rpc import ErrorCode, MpleError, error_of

FRAME_BYTES = 1024 * 1024 - 128
"""Most bytes of content in one frame, whose message then has at most 1 MiB."""
_AHEAD = 8
_MOST_CONTENT_BYTES = 256 * 1024 * 1024
Buffer: TypeAlias = bytes | bytearray | memoryview
M = TypeVar("M", two_party_pb2.ExchangeRequest, two_party_pb2.ExchangeResponse)


class Outbox(Generic[M]):
    """Messages on their way out: an iterator for gRPC, filled by the protocol; neither runs far ahead of the other."""

    def __init__(self) -> None:
        self._waiting: deque[M] = deque()
        self._changed = threading.Condition()
        self._finished = self._broken = False

    def put(self, message: M) -> None:
        """Append a message, once there is room. Raises MpleError: STREAM_TRUNCATED: the call is over."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < _AHEAD or self._broken)
            if self._broken:
                raise MpleError(ErrorCode.STREAM_TRUNCATED, "the call ended while there was more to send")
            self._waiting.append(message)
            self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more comes; what waits is still sent."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def break_off(self) -> None:
        """The call is over: nothing is sent any more."""
        with self._changed:
            self._broken = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[M]:
        return self

    def __next__(self) -> M:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finished or self._broken)
            if not self._waiting:
                raise StopIteration
            message = self._waiting.popleft()
            self._changed.notify_all()
            return message


class Link:
    """One party's end. Sending and receiving may be done by two threads, each by one at a time."""

    def __init__(
        self,
        outbox: Outbox[Any],
        incoming: Iterator[Exchanged],
        wrapped: type[two_party_pb2.ExchangeRequest] | type[two_party_pb2.ExchangeResponse],
        break_off: Callable[[], object],
    ) -> None:
        """Over an open call.

        Args:
            outbox: What gRPC sends from.
            incoming: The peer's messages.
            wrapped: What this party's frames travel in.
            break_off: Ends the call.
        """
        self._outbox, self._incoming, self._wrapped, self._break_off = outbox, incoming, wrapped, break_off

    def send(self, phase: Phase, part: str, kind: Kind, *buffers: Buffer, inferences: int = 0) -> None:
        """Send a content; returns when its last frame waits to be sent.

        Args:
            phase: When in the protocol.
            part: The layer, or empty.
            kind: What it is.
            buffers: Its bytes, one after the other; at least one frame is sent, were it empty.
            inferences: How many pictures begin with it.

        Raises MpleError: the call is over.
        """
        pieces = _pieces(buffers)
        following: bytes | None = next(pieces)
        while following is not None:
            piece, following = following, next(pieces, None)
            message = self._wrapped()
            frame = message.frame
            frame.phase, frame.part, frame.kind = PHASE_NUMBERS[phase], part, KIND_NUMBERS[kind]
            frame.data, frame.inferences, frame.more = piece, inferences, following is not None
            self._outbox.put(message)
            inferences = 0

    def receive(self, phase: Phase, part: str, kind: Kind, most_bytes: int = _MOST_CONTENT_BYTES) -> bytes:
        """The next content, which must be the one that is named.

        Raises MpleError: the peer sent another content or more than `most_bytes`, sent nothing for too long, broke off,
        or has said why it can't go on.
        """
        return b"".join(self.receive_pieces(phase, part, kind, most_bytes))

    def receive_pieces(
        self, phase: Phase, part: str, kind: Kind, most_bytes: int = _MOST_CONTENT_BYTES
    ) -> Iterator[bytes]:
        """The next content frame by frame, for what is not to be held at once; see `receive`."""
        total, more = 0, True
        while more:
            frame = self._next_frame(f"{phase}/{part or '-'}/{kind}").frame
            if (frame.phase, frame.part, frame.kind) != (PHASE_NUMBERS[phase], part, KIND_NUMBERS[kind]):
                text = f"{named(frame)} came where {phase}/{part or '-'}/{kind} was due"
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
            total += len(frame.data)
            if total > most_bytes:
                text = f"{phase}/{part or '-'}/{kind} has more than the {most_bytes} bytes that were due"
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
            yield frame.data
            more = frame.more

    def finish(self) -> None:
        """This party has sent all that it has to."""
        self._outbox.finish()

    def require_end(self) -> None:
        """Wait until the peer has ended its side, too. Raises MpleError: it sends something more, or breaks off."""
        try:
            message = next(self._incoming)
        except StopIteration:
            return
        except grpc.RpcError as fault:
            raise _error_behind(fault, "the end of the call") from None
        text = f"{named(message.frame)} came where the end of the call was due"
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)

    def break_off(self) -> None:
        """End the call at once; whoever sends or receives gets an error."""
        self._outbox.break_off()
        self._break_off()

    def _next_frame(self, due: str) -> Exchanged:
        try:
            return next(self._incoming)
        except StopIteration:
            text = f"the other party ended the call where {due} was due"
            raise MpleError(ErrorCode.STREAM_TRUNCATED, text) from None
        except grpc.RpcError as fault:
            raise _error_behind(fault, due) from None


class Sending:
    """A thread that sends while the party's own thread receives; contents leave in the order of the calls. A context
    manager: on the way out it waits until all has left, and raises what went wrong. A fault in the thread ends the
    call, so that the party's own thread does not wait for answers to what was never sent."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sending")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, kind: object, _fault: object, _trace: object) -> None:
        if kind is not None:  # what waits is not begun; what is being sent ends with the call
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._raise_own()
            return
        try:
            for pending in self._pending:
                pending.result()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def begin(self, work: Callable[[], None]) -> None:
        """Do some sending, and what belongs to it, after all that was begun before."""
        self._pending.append(self._thread.submit(self._done_or_ended, work))

    def _done_or_ended(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self._link.break_off()
            raise

    def _raise_own(self) -> None:
        """The thread's fault, where the one that the other thread saw only follows from it."""
        for pending in self._pending:
            fault = pending.exception() if pending.done() and not pending.cancelled() else None
            if fault is not None and not isinstance(fault, MpleError | CancelledError):
                raise fault from None


def frames_of(content_bytes: int) -> int:
    """How many frames a content takes."""
    return max(1, -(-content_bytes // FRAME_BYTES))


def _pieces(buffers: Iterable[Buffer]) -> Iterator[bytes]:
    """The buffers' bytes in pieces of `FRAME_BYTES`, the last one shorter; an empty piece where there are none."""
    held: list[memoryview] = []
    room = FRAME_BYTES
    whole = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while len(view):
            if not room:
                yield b"".join(held)
                held, room = [], FRAME_BYTES
            held.append(view[:room])
            room -= len(held[-1])
            view = view[len(held[-1]) :]
            whole += 1
    if held or not whole:
        yield b"".join(held)


def _error_behind(fault: grpc.RpcError, due: str) -> MpleError:
    known = error_of(fault)
    if known is not None:
        return known
    details = fault.details() if isinstance(fault, grpc.Call) else None
    text = f"the other party broke off where {due} was due" + (f" ({details})" if details else "")
    return MpleError(ErrorCode.STREAM_TRUNCATED, text)
