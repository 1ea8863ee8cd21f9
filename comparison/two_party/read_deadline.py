"""A call's responses, each within a time: a server that says nothing does not hold its client for ever.

gRPC's own iterator waits without end, so that another thread has to do the reading than the one that gives up. It holds
at most two messages, whatever the peer sends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import grpc

from mple.rpc import ErrorCode, MpleError

T = TypeVar("T")


class Reading(Protocol):
    """What has an end."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have a function called at the end; False: it is there already."""


class DeadlineIterator(Generic[T]):
    """The messages of one call; an iterator for one thread."""

    def __init__(self, messages: Iterator[T], reading: Reading, idle_s: float) -> None:
        """Begin to read the call's own iterator, which nobody else may use, until `reading` ends; `idle_s` is the
        longest wait in seconds."""
        self._idle_s, self._messages = idle_s, messages
        self._changed = threading.Condition()
        self._next: list[T] = []
        self._fault: Exception | None = None
        self._ended = self._closed = False
        if not reading.add_callback(self._close):
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
                raise MpleError(ErrorCode.STREAM_TRUNCATED, f"no message came for {self._idle_s:g} s")
            if self._next:
                self._changed.notify_all()
                return self._next.pop()
            if self._fault is not None:
                raise self._fault
            raise StopIteration

    def _read(self) -> None:
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or not self._next)
                    if self._closed:
                        raise grpc.RpcError("the call is over")
                    self._next.append(message)
                    self._changed.notify_all()
        except Exception as fault:
            self._fault = fault
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _close(self) -> None:
        """The call is over: let the thread go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
