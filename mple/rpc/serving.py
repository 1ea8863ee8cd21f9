"""Where served calls live: a coroutine each in the loop that serves, whatever their servicer is.

What a call costs while it is open:

- A call whose servicer is a coroutine holds no thread while it waits, see `mple.rpc.call`.
- A synchronous servicer of one request holds a thread only while it works: its request is there before it begins, and
  between two of its responses none waits for the caller to read. All of these, and all work of coroutines, share
  `WORKERS` threads.
- A synchronous servicer of a stream of requests holds a thread of another pool for as long as it is open.

All methods are streams of bytes to gRPC, which would wait without end for the request of a call that has one, and
(de)serialize in the loop.
"""

import asyncio
import inspect
import re
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from mple.meter import Ledger, Measure
from mple.rpc.admission import ACCEPTED_KEY, Admission
from mple.rpc.call import Call, CallEnd, Requests
from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.guard import refusal_of
from mple.rpc.identity import label_of
from mple.rpc.metering import CALL_KEY, CallMeter
from mple.rpc.pools import PatientPool

WORKERS = 16
"""Threads for work that waits for no peer: on a disk, a lock or the processor."""
_CALL_ID = re.compile(r"[0-9a-f]{16}")
Continuation = Callable[[Any], Any]


class Serving(grpc.aio.ServerInterceptor):
    """Serves every call of one server: admission, metering, its servicer, and the way in which it ends."""

    def __init__(self, admission: Admission, ledger: Ledger, measure: Measure, *, streams: int, idle_s: float) -> None:
        """For a server.

        Args:
            admission: Lets callers in.
            ledger: Every message is entered here.
            measure: What messages are.
            streams: Most synchronous calls with a stream of requests at once.
            idle_s: Longest wait for a message that is due, in seconds.
        """
        self._admission, self._ledger, self._measure, self._idle_s = admission, ledger, measure, idle_s
        self._workers, self._streams = PatientPool(WORKERS, "rpc"), PatientPool(streams, "rpc_stream")
        self._open: set[asyncio.Task[None]] = set()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Put all of this around one call."""
        handler = await continuation(details)
        if handler is None:
            return None

        async def serve(_requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                await self._serve(handler, details.method, context)
            finally:
                self._open.discard(task)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def ended(self, within_s: float) -> None:
        """Wait so many seconds at most until no call is open."""
        if self._open:
            await asyncio.wait(self._open, timeout=within_s)

    def close(self) -> None:
        """Let the threads go."""
        for pool in (self._workers, self._streams):
            pool.shutdown(wait=False)

    async def _serve(self, handler: Any, method: str, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        call = Call(context, self._workers, self._idle_s)
        try:
            await self._admitted(handler, method, call)
        except asyncio.CancelledError:
            if not call.cut:
                raise
            await context.abort(grpc.StatusCode.CANCELLED, "the call was broken off")
        except CallEnd as end:
            await context.abort(end.code, end.details)
        except Exception as fault:
            if call.missing is not None:
                await context.abort(call.missing.code, call.missing.details)
            if isinstance(fault, grpc.RpcError) and not isinstance(fault, grpc.Call):
                # The caller is gone: reading its requests raised. There is nobody left to answer.
                await context.abort(grpc.StatusCode.CANCELLED, "the caller broke the call off")
            refusal = await call.run(refusal_of, fault, call, method.rpartition("/")[2])
            await context.abort(refusal.code, refusal.text, refusal.trailing)
        finally:
            call.end()

    async def _admitted(self, handler: Any, method: str, call: Call) -> None:
        await call.run(self._admission.enter, call)
        try:
            if handler.response_streaming:
                await call.accept(((ACCEPTED_KEY, "1"),))
            sent = dict(call.invocation_metadata() or ()).get(CALL_KEY)
            call_id = sent if isinstance(sent, str) and _CALL_ID.fullmatch(sent) else secrets.token_hex(8)
            meter = CallMeter(self._ledger, method, call_id, label_of(call), self._measure)
            call.read_message = meter.deserializer(handler.request_deserializer)
            call.write_message = meter.serializer(handler.response_serializer)
            await self._answer(handler, call)
        finally:
            self._admission.leave(call)

    async def _answer(self, handler: Any, call: Call) -> None:
        shapes = ("unary", "stream")
        behaviour = getattr(handler, f"{shapes[handler.request_streaming]}_{shapes[handler.response_streaming]}")
        request: Callable[[], Any] = (
            partial(Requests, call) if handler.request_streaming else await self._only_request(call)
        )
        if inspect.iscoroutinefunction(behaviour):
            response = await behaviour(await call.run(request), call)
            if not handler.response_streaming:
                await call.write(response)
            return
        threads = self._streams if handler.request_streaming else self._workers
        if not handler.response_streaming:
            await call.send(await call.run_in(threads, lambda: call.write_message(behaviour(request(), call))))
            return
        responses = iter(await call.run_in(threads, lambda: behaviour(request(), call)))
        try:
            while (data := await call.run_in(threads, lambda: _next(responses, call))) is not None:
                await call.send(data)
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                await call.run_in(threads, close)

    async def _only_request(self, call: Call) -> Callable[[], Any]:
        """What reads the request of a call that has one, now that it is here."""
        data = await call.read(self._idle_s)
        if data is None:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "the call ended without its request")
        return partial(call.read_message, data)


def _next(responses: Iterator[Any], call: Call) -> bytes | None:
    """A generator's next response, metered; None at its end, since StopIteration passes through no future."""
    for response in responses:
        return call.write_message(response)
    return None
