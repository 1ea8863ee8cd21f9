"""One served call, as servicers see it: synchronous ones in a pool's thread, coroutines in the loop that serves.

A call that waits holds no thread: neither for its caller's next message, nor for its caller to read, nor for news.
A thread works for it only while there is something to do, and does not wait for the peer meanwhile. Synchronous
servicers of streams of requests are the exception: while such a call is open it holds a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

import grpc
import grpc.aio

from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.pools import PatientPool
from mple.rpc.waking import Wake

if TYPE_CHECKING:
    from mple.rpc.metering import Deserializer, Serializer

MESSAGE_IDLE_S = 60.0
"""How long a call waits for a message that is due, by default: longer than a ping takes to notice a dead link."""
P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")


class CallEnd(Exception):  # an end that a servicer asks for, as gRPC's `abort`
    """A servicer has ended its call with a status of gRPC's own."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code, self.details = code, details


class Call:
    """One served call; what does not say otherwise is for any thread. It stands in for `grpc.ServicerContext`."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes], threads: PatientPool, idle_s: float) -> None:
        """For the coroutine that serves it.

        Args:
            context: gRPC's own.
            threads: For work that does not wait for the peer.
            idle_s: Longest wait for a message that is due, in seconds.
        """
        self._context, self._threads, self.idle_s = context, threads, idle_s
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._over = False
        self.cut = False
        """Whether this end has broken it off."""
        self.missing: CallEnd | None = None
        """How a call ends that no servicer has."""
        self.read_message: Deserializer = lambda data: data
        """Reads and meters what came, in a pool's thread."""
        self.write_message: Serializer = lambda message: message
        """Meters what is to be sent and makes bytes of it, likewise."""

    # As gRPC's context.

    def auth_context(self) -> Any:
        """What TLS knows of the caller."""
        return self._context.auth_context()

    def invocation_metadata(self) -> Any:
        """The caller's metadata: pairs."""
        return self._context.invocation_metadata()

    def is_active(self) -> bool:
        """Whether the call goes on."""
        return not self._over

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have a function called once the call is over; it must not block. False: it is over already."""
        with self._lock:
            if not self._over:
                self._callbacks.append(callback)
            return not self._over

    def cancel(self) -> None:
        """Break the call off."""
        self._loop.call_soon_threadsafe(self._break_off)

    def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a status of gRPC's own."""
        raise CallEnd(code, details)

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status to end with, once a method that no servicer has raises."""
        self.missing = CallEnd(code, "no servicer has this method")

    def set_details(self, details: str) -> None:
        """As gRPC's; `set_code` says it all."""

    # For coroutines.

    def wake(self) -> Wake:
        """Something to sleep on."""
        return Wake()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns, which runs in a pool's thread and does not wait for the peer.

        Guarantees: it has ended when this returns or raises. Where the call is broken off meanwhile, the coroutine is
        told of that at its next wait.
        """
        return await self.run_in(self._threads, partial(work, *args, **kwargs))

    async def run_in(self, threads: PatientPool, work: Callable[[], T]) -> T:
        """As `run`, in a thread of another pool."""
        running = self._loop.run_in_executor(threads, work)
        task = asyncio.current_task()
        cancelled = False
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                cancelled = True
                if task is self._task:
                    self.end()  # the work may wait for that
        if cancelled and task is not None:
            task.cancel()
        return running.result()

    @asynccontextmanager
    async def within(self, place: AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and leave a context in a pool's thread."""
        entered = await self.run(place.__enter__)
        try:
            yield entered
        except BaseException as fault:
            if not await self.run(place.__exit__, type(fault), fault, fault.__traceback__):
                raise
        else:
            await self.run(place.__exit__, None, None, None)

    async def accept(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Tell the caller that it is let in."""
        await self._context.send_initial_metadata(metadata)

    async def read(self, within_s: float | None) -> bytes | None:
        """The next message as it came, or None when the caller has ended its side; waits so many seconds at most.

        Raises MpleError: STREAM_TRUNCATED when none came in time; grpc.RpcError: the caller broke the call off.
        """
        try:
            async with asyncio.timeout(within_s):
                data: Any = await self._context.read()
        except TimeoutError:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, f"no message came for {within_s:g} s") from None
        if data is not grpc.aio.EOF:
            return bytes(data) if not isinstance(data, bytes) else data
        await asyncio.sleep(0)  # a broken link ends the messages, too, and is told of right after
        if self._over or (self._task is not None and self._task.cancelling()):
            raise grpc.RpcError("the caller broke the call off")
        return None

    async def send(self, data: bytes) -> None:
        """Send a message that has been metered; returns once the link has taken it."""
        await self._context.write(data)

    async def write(self, message: Any) -> None:
        """Send a message."""
        await self.send(await self.run(self.write_message, message))

    async def write_from(self, make: Callable[[], M | None]) -> M | None:
        """Send what `make` makes in a pool's thread, and return it; None, and nothing is sent, when it has nothing."""

        def made() -> tuple[M | None, bytes]:
            message = make()
            return message, b"" if message is None else self.write_message(message)

        message, data = await self.run(made)
        if message is not None:
            await self.send(data)
        return message

    def end(self) -> None:
        """The call is over: tell whoever asked to be told."""
        with self._lock:
            self._over, callbacks = True, self._callbacks
            self._callbacks = []
        for callback in callbacks:
            callback()

    def _break_off(self) -> None:
        if self._task is not None and not self._over:
            self.cut = True
            self._task.cancel()

    # For the requests.

    def wait_for_message(self) -> Future[bytes | None]:
        """Begin to read the next message, for a thread that waits for it."""
        return asyncio.run_coroutine_threadsafe(self.read(self.idle_s), self._loop)


class Requests(Generic[T]):
    """The requests of a call: for one synchronous servicer an iterator that waits for each as long as it may be in
    coming; for coroutines `receive`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reading: Future[bytes | None] | None = None
        call.add_callback(self._read_no_more)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """The next message.

        Raises StopIteration: the caller has ended its side; MpleError: STREAM_TRUNCATED when no message came in time,
        or what reading the message raised; grpc.RpcError: the caller broke the call off.
        """
        self._reading = reading = self._call.wait_for_message()
        if not self._call.is_active():
            reading.cancel()
        try:
            data = reading.result()
        except CancelledError:
            raise grpc.RpcError("the caller broke the call off") from None
        if data is None:
            raise StopIteration
        message: T = self._call.read_message(data)
        return message

    async def receive(self, take: Callable[[T], M], *, patient: bool = False) -> M | None:
        """What `take` makes, in a pool's thread, of the next message; None when the caller has ended its side.

        A `patient` one waits without end for a caller that has nothing to say.

        Raises Exception: as `__next__`, or what `take` raises.
        """
        data = await self._call.read(None if patient else self._call.idle_s)
        if data is None:
            return None
        return await self._call.run(self._taken, take, data)

    async def receive_all(self, take: Callable[[T], None]) -> None:
        """Have `take` take every message that comes, however long it is in coming, until the caller ends its side."""
        while (data := await self._call.read(None)) is not None:
            await self._call.run(self._taken, take, data)

    def _read_no_more(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _taken(self, take: Callable[[T], M], data: bytes) -> M:
        return take(self._call.read_message(data))
