"""A call's messages, each within a time: who opens a call and says nothing does not hold it for ever.

gRPC's own iterator waits without end, so that another thread has to do the reading than the one that gives up. What a
served call costs:

- A call with one request holds a thread of the server, and one of its readers until the request is there. Both are
  of pools, so that none is started for a call.
- A stream of requests holds a thread of the server and one that reads, for as long as it is open. The reader holds at
  most two messages, whatever the peer sends; or it takes them itself (`hand_to`), and the other thread only sends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Generic, TypeVar

import grpc

from mple.rpc.errors import ErrorCode, MpleError

MESSAGE_IDLE_S = 60.0
"""How long a call waits for a message that is due, by default: longer than a ping takes to notice a dead link."""
T = TypeVar("T")


def only_request(messages: Iterator[T], readers: Executor, idle_s: float) -> T:
    """The request of a call that has one, if it comes within `idle_s` seconds.

    Raises MpleError: STREAM_TRUNCATED when it does not, MESSAGE_MALFORMED when the call ends without; grpc.RpcError:
    the caller broke the call off.
    """
    reading = readers.submit(next, messages, None)
    try:
        request = reading.result(idle_s)
    except TimeoutError:
        raise _silent(idle_s) from None
    if request is None:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, "the call ended without its request")
    return request


class DeadlineIterator(Generic[T]):
    """The messages of one served call; an iterator for one thread."""

    def __init__(self, messages: Iterator[T], context: grpc.ServicerContext, idle_s: float) -> None:
        """Begin to read the call's own iterator, which nobody else may use; `idle_s` is the longest wait in seconds."""
        self._idle_s, self._messages = idle_s, messages
        self._changed = threading.Condition()
        self._next: list[T] = []
        self._take: Callable[[T], None] | None = None
        self._on_end: Callable[[], None] = lambda: None
        self._fault: Exception | None = None
        self._ended = self._closed = False
        if not context.add_callback(self._close):
            self._closed = True
        threading.Thread(target=self._read, name="messages", daemon=True).start()

    def __iter__(self) -> DeadlineIterator[T]:
        return self

    def __next__(self) -> T:
        """The next message.

        Raises StopIteration: the caller has ended its side; MpleError: STREAM_TRUNCATED when no message came in time,
        or what reading the message raised; grpc.RpcError: the caller broke the call off.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._next or self._ended, self._idle_s):
                raise _silent(self._idle_s)
            if self._next:
                self._changed.notify_all()
                return self._next.pop()
            self.raise_fault()
            raise StopIteration

    def hand_to(self, take: Callable[[T], None], on_end: Callable[[], None]) -> None:
        """Have the reading thread itself take every message from now on, however long the next one is in coming.

        What `take` raises ends the reading. `on_end` is called once it has ended: so, by the caller or a broken link.

        Raises Exception: what `take` raised for a message that was already here.
        """
        with self._changed:
            while self._next:
                take(self._next.pop())
            self._take, self._on_end = take, on_end
            self._changed.notify_all()
            if not self._ended:
                return
        on_end()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended

    def raise_fault(self) -> None:
        """Raise what has ended the reading, unless that was the caller, in order."""
        if self._fault is not None:
            raise self._fault

    def wait_ended(self, within_s: float) -> bool:
        """Wait for the caller to end its side; whether it has within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, within_s)

    def _read(self) -> None:
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._take or self._closed or not self._next)
                    if self._closed:
                        raise grpc.RpcError("the call is over")
                    take = self._take
                    if take is None:
                        self._next.append(message)
                        self._changed.notify_all()
                if take is not None:
                    take(message)
        except Exception as fault:
            self._fault = fault
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
                on_end = self._on_end
            on_end()

    def _close(self) -> None:
        """The call is over: let the thread go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _silent(idle_s: float) -> MpleError:
    return MpleError(ErrorCode.STREAM_TRUNCATED, f"no message came for {idle_s:g} s")
