"""Metering where bytes are made: every message's size is taken as its (de)serializer runs, on both ends.

The dialling party names each call by a random id that travels as metadata `mple-call`; both ends number a call's
messages per direction from 0. So the two ends' ledgers can be matched message by message.

The server (de)serializes within the call (`mple.rpc.serving`), not within gRPC: what goes wrong there, a message of
rubbish or a ledger that can't be written, ends the call with an error of the catalogue.
"""

from __future__ import annotations

import functools
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from mple.disk.storage_faults import note_storage_fault
from mple.meter import Direction, Ledger, LedgerEntry, Measure, measure
from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.renewal import RenewedChannel

CALL_KEY = "mple-call"
Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


class CallMeter:
    """The messages of one call."""

    def __init__(self, ledger: Ledger, method: str, call_id: str, peer: str, measure: Measure) -> None:
        self._ledger, self._method, self._call_id, self._peer = ledger, method.rpartition("/")[2], call_id, peer
        self._measure = measure
        self._counts = {Direction.SENT: 0, Direction.RECEIVED: 0}
        self._lock = threading.Lock()

    def serializer(self, inner: Serializer | None) -> Serializer:
        """Count what `inner` makes."""

        def serialize(message: Any) -> bytes:
            data: bytes = inner(message) if inner is not None else message
            self._count(Direction.SENT, message, len(data))
            return data

        return serialize

    def deserializer(self, inner: Deserializer | None) -> Deserializer:
        """Count what `inner` reads."""

        def deserialize(data: bytes) -> Any:
            try:
                message: Any = inner(data) if inner is not None else data
            except DecodeError as fault:
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"{len(data)} bytes are no message: {fault}") from None
            if isinstance(message, Message):
                # What no field of ours holds would be kept, and passed on, with the fields that are.
                message.DiscardUnknownFields()
            self._count(Direction.RECEIVED, message, len(data))
            return message

        return deserialize

    def _count(self, direction: Direction, message: Message, size: int) -> None:
        with self._lock:
            index = self._counts[direction]
            self._counts[direction] += 1
        entry = LedgerEntry(
            time_unix_ns=time.time_ns(),
            direction=direction,
            peer=self._peer,
            method=self._method,
            call_id=self._call_id,
            index=index,
            facts=self._measure(message),
            serialized_bytes=size,
        )
        try:
            self._ledger.record(entry)
        except OSError as fault:
            note_storage_fault(fault)  # gRPC would make an INTERNAL of it and forget why
            raise


class MeteredChannel(grpc.Channel):
    """A channel whose every message is entered in a ledger; made by `open_channel`."""

    def __init__(self, channel: RenewedChannel, ledger: Ledger, peer: str, *, measure: Measure = measure) -> None:
        self.unmetered = channel
        """Messages on gRPC's own channel are in no ledger."""
        self._ledger, self._peer, self._measure = ledger, peer, measure

    def _metered(self, shape: str, method: str, *a: Any, **k: Any) -> Any:
        return _Metered(self, shape, method, *a, **k)

    unary_unary = functools.partialmethod(_metered, "unary_unary")
    unary_stream = functools.partialmethod(_metered, "unary_stream")
    stream_unary = functools.partialmethod(_metered, "stream_unary")
    stream_stream = functools.partialmethod(_metered, "stream_stream")

    def new_call(self, method: str) -> tuple[str, CallMeter]:
        """An id and a meter for one call."""
        call_id = secrets.token_hex(8)
        return call_id, CallMeter(self._ledger, method, call_id, self._peer, self._measure)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """Call a function with each new state of the connection."""
        self.unmetered.current().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """Stop calling it."""
        self.unmetered.current().unsubscribe(callback)

    def close(self) -> None:
        """Break off open calls and the connection; a second call does nothing."""
        self.unmetered.close()

    def __enter__(self) -> MeteredChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Metered:
    """One method of a metered channel. Each call gets (de)serializers of its own, so that they know their call."""

    def __init__(
        self,
        channel: MeteredChannel,
        shape: str,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        **options: Any,
    ) -> None:
        self._channel, self._shape, self._method, self._options = channel, shape, method, options
        self._serializer, self._deserializer = request_serializer, response_deserializer

    def __call__(self, request: Any, *a: Any, metadata: Any = None, **k: Any) -> Any:
        stays_open = self._shape.endswith("_stream")
        return self._made(lambda inner, named: inner(request, *a, metadata=named, **k), metadata, stays_open)

    def with_call(self, request: Any, *a: Any, metadata: Any = None, **k: Any) -> Any:
        return self._made(lambda inner, named: inner.with_call(request, *a, metadata=named, **k), metadata, False)

    def future(self, request: Any, *a: Any, metadata: Any = None, **k: Any) -> Any:
        return self._made(lambda inner, named: inner.future(request, *a, metadata=named, **k), metadata, True)

    def _made(self, make: Callable[[Any, Any], Any], metadata: Any, stays_open: bool) -> Any:
        call_id, meter = self._channel.new_call(self._method)
        read, write = meter.deserializer(self._deserializer), meter.serializer(self._serializer)
        named = (*(metadata or ()), (CALL_KEY, call_id))

        def begin(channel: grpc.Channel) -> Any:
            return make(getattr(channel, self._shape)(self._method, write, read, **self._options), named)

        return self._channel.unmetered.call(begin, stays_open=stays_open)
