"""What stands before every served call: who calls, may they, how errors leave, and the audit of who was refused."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

import grpc

from mple.audit import audit_refusal
from mple.disk.storage_faults import note_storage_fault
from mple.rpc.errors import FIX_KEY, METADATA_KEY, ErrorCode, MpleError, error_for
from mple.rpc.identity import Party, Role, label_of, peer_of

_LOGGER = logging.getLogger("mple.rpc")
_MOST_TEXT = 500
"""The text travels in a header; headers beyond 8 KiB end the call with another error than ours."""


class Guarded(Protocol):
    """A service that knows its consortium."""

    consortium: str


def guarded(*roles: Role) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a service method take the verified caller as its last argument, and only callers of these roles in.

    Works for methods that return a response and for generators of responses. A `MpleError` ends the call with its
    code; any other exception is logged with its traceback and ends the call as INTERNAL. A fault of the disk ends it
    as STORAGE_FULL, and the node after it.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        def admitted(service: Guarded, context: grpc.ServicerContext) -> Party:
            peer = peer_of(context)
            if peer.consortium != service.consortium:
                raise MpleError(ErrorCode.FOREIGN_CONSORTIUM, f"{peer.uri} calls consortium {service.consortium}")
            if peer.role not in roles:
                raise MpleError(ErrorCode.ROLE_NOT_ALLOWED, f"{peer.label} calls {method.__name__}")
            return peer

        @functools.wraps(method)
        def unary(service: Guarded, request: object, context: grpc.ServicerContext) -> object:
            try:
                return method(service, request, context, admitted(service, context))
            except Exception as fault:
                abort_call(context, fault, method.__name__)

        @functools.wraps(method)
        def stream(service: Guarded, request: object, context: grpc.ServicerContext) -> Iterator[object]:
            try:
                yield from method(service, request, context, admitted(service, context))
            except Exception as fault:
                abort_call(context, fault, method.__name__)

        return stream if inspect.isgeneratorfunction(method) else unary

    return decorate


def abort_call(context: grpc.ServicerContext, fault: Exception, method: str) -> NoReturn:
    """End a served call because of `fault`, telling the caller what the catalogue allows and the log the rest."""
    if isinstance(fault, grpc.RpcError) and not isinstance(fault, grpc.Call):
        # The caller is gone: its request iterator raised. There is nobody left to answer.
        context.abort(grpc.StatusCode.CANCELLED, "the caller broke the call off")
    error, told = error_for(fault), True
    try:
        # With the consortium where it is another: names are unique within one only.
        caller = peer_of(context).uri if error.code is ErrorCode.FOREIGN_CONSORTIUM else label_of(context)
        told = audit_refusal(caller, error.code, method=method, detail=error.detail)
    except OSError as unaudited:
        fault = unaudited
        error = error_for(fault)
    note_storage_fault(fault)
    if not told:
        pass  # a caller that is refused again and again fills the log no more than the trail
    elif error.code is ErrorCode.INTERNAL:
        _LOGGER.error("%s failed", method, exc_info=fault)
    else:
        # As text: a kept record would keep the error, and with its frames the message that was refused.
        _LOGGER.warning("%s refused: %s", method, str(error))
    fix = ((FIX_KEY, error.fix[:_MOST_TEXT].encode()),) if error.fix else ()
    context.set_trailing_metadata(((METADATA_KEY, error.code.value), *fix))
    context.abort(error.code.status, str(error)[:_MOST_TEXT])
