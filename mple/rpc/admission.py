"""What stands before all else in a server: whether the caller's certificate still counts, how many calls one caller may
have open, and when a call must begin.

Every open call holds a thread, and there are so many for all callers together. Were one caller to take them all, by
streams that never end or by calls whose message never comes, nobody else would be served.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import grpc
from cryptography import x509

from mple.audit import audit
from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.guard import abort_call
from mple.rpc.identity import Role, label_of, peer_of
from mple.rpc.read_deadline import only_request
from mple.rpc.revoked import FreshList

CALLS_PER_CALLER = 8
"""A stream of each kind, the broken one that each may have replaced, and short calls beside them."""


ACCEPTED_KEY = "mple-accepted"
"""Initial metadata of every stream that is let in: so its caller can tell a link that broke from one that never was."""


class AdmissionInterceptor(grpc.ServerInterceptor):
    """Refuses revoked callers, and calls beyond a caller's number; ends a call whose request does not come."""

    def __init__(
        self, *, per_caller: int, processes: Mapping[Role, int], idle_s: float, revoked: FreshList, readers: Executor
    ) -> None:
        """Admit `per_caller` calls of one party at once, so many times as `processes` of its role have its certificate
        (1 by default), and wait `idle_s` seconds for the request of a call with one. There must be as many `readers` as
        calls may be open; see `mple.rpc.read_deadline`."""
        self._per_caller, self._processes = per_caller, processes
        self._idle_s, self._revoked, self._readers = idle_s, revoked, readers
        self._open: dict[str, int] = {}
        self._contexts: dict[grpc.ServicerContext, int] = {}
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Put the admission before one call. A call with a single request is served as a stream of one: gRPC itself
        would wait for that request without end, and before it lets us see the caller."""
        handler = continuation(details)
        if handler is None:
            return None
        kind = "stream" if handler.response_streaming else "unary"
        behaviour = getattr(handler, f"{'stream' if handler.request_streaming else 'unary'}_{kind}")

        def requests(received: Iterator[bytes]) -> Any:
            return received if handler.request_streaming else only_request(received, self._readers, self._idle_s)

        def unary(received: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            try:
                with self._place(context):
                    return behaviour(requests(received), context)
            except (MpleError, grpc.RpcError) as fault:
                abort_call(context, fault, details.method)

        def stream(received: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                with self._place(context):
                    context.send_initial_metadata(((ACCEPTED_KEY, "1"),))
                    yield from behaviour(requests(received), context)
            except (MpleError, grpc.RpcError) as fault:
                abort_call(context, fault, details.method)

        return grpc.stream_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        ) if handler.response_streaming else grpc.stream_unary_rpc_method_handler(
            unary, handler.request_deserializer, handler.response_serializer
        )  # fmt: skip

    def cut_revoked(self) -> int:
        """End the open calls of callers whose certificates have been revoked meanwhile; returns how many there were."""
        revoked = self._revoked.now().entries
        with self._lock:
            cut = [context for context, serial in self._contexts.items() if serial in revoked]
            for context in cut:
                del self._contexts[context]  # once: a call may take its time to end
        for context in cut:
            audit(label_of(context), "call_cut", ErrorCode.CERTIFICATE_REVOKED)
            context.cancel()
        return len(cut)

    @contextmanager
    def _place(self, context: grpc.ServicerContext) -> Iterator[None]:
        try:
            party = peer_of(context)
            caller, most = party.uri, self._per_caller * self._processes.get(party.role, 1)
        except MpleError:
            caller, most = "", self._per_caller
        serial = _serial(context)
        revoked = self._revoked.now().entries.get(serial)
        if revoked is not None:
            raise MpleError(ErrorCode.CERTIFICATE_REVOKED, f"it was {revoked}")
        with self._lock:
            count = self._open.get(caller, 0)
            if count >= most:
                raise MpleError(ErrorCode.TOO_MANY_CALLS, f"{count} are open; end one first")
            self._open[caller] = count + 1
            self._contexts[context] = serial
        try:
            yield
        finally:
            with self._lock:
                self._contexts.pop(context, None)
                self._open[caller] -= 1
                if not self._open[caller]:
                    del self._open[caller]


def _serial(context: grpc.ServicerContext) -> int:
    """Serial number of the caller's certificate; TLS has checked it, -1 where it shows none."""
    shown = context.auth_context().get("x509_pem_cert", ())
    return x509.load_pem_x509_certificate(bytes(shown[0])).serial_number if shown else -1
