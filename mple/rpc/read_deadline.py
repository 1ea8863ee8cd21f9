"""A call's messages one at a time, each within a time: who opens a call and says nothing does not hold it for ever.

gRPC's own iterator waits without end. Here a thread of the call reads one message ahead, and whoever takes the
messages waits for the thread no longer than agreed. At most two messages are held, whatever the peer sends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import grpc

from mple.rpc.errors import ErrorCode, MpleError

MESSAGE_IDLE_S = 60.0
"""How long a call waits for a message that is due, by default: longer than a ping takes to notice a dead link."""
T = TypeVar("T")


class DeadlineIterator(Generic[T]):
    """The messages of one served call; an iterator for one thread."""

    def __init__(self, messages: Iterator[T], context: grpc.ServicerContext, idle_s: float | None) -> None:
        """Begin to read.

        Args:
            messages: The call's own iterator; nobody else may use it from now on.
            context: The call's.
            idle_s: Longest wait for a message in seconds, None for any length. May be changed between messages.
        """
        self.idle_s = idle_s
        self._messages = messages
        self._changed = threading.Condition()
        self._next: list[T] = []
        self._fault: Exception | None = None
        self._ended = self._closed = False
        if not context.add_callback(self._close):
            self._closed = True
        threading.Thread(target=self._read, name="messages", daemon=True).start()

    def __iter__(self) -> DeadlineIterator[T]:
        return self

    def __next__(self) -> T:
        """The next message.

        Raises:
            StopIteration: The caller has ended its side.
            MpleError: STREAM_TRUNCATED when no message came within `idle_s`, or what reading the message raised.
            grpc.RpcError: The caller broke the call off.
        """
        with self._changed:
            came = self._changed.wait_for(lambda: self._next or self._ended, self.idle_s)
            if not came:
                raise MpleError(ErrorCode.STREAM_TRUNCATED, f"no message came for {self.idle_s:g} s")
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
                    self._changed.wait_for(lambda: not self._next or self._closed)
                    if self._closed:
                        return
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
