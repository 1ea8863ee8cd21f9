"""What stands before every served call: who calls, may they, how errors leave, and the audit of who was refused."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import grpc

from mple.audit import audit_refusal
from mple.disk.storage_faults import note_storage_fault
from mple.rpc.errors import FIX_KEY, METADATA_KEY, ErrorCode, MpleError, error_for
from mple.rpc.identity import Caller, Party, Role, label_of, peer_of

_LOGGER = logging.getLogger("mple.rpc")
_MOST_TEXT = 500
"""The text travels in a header; headers beyond 8 KiB end the call with another error than ours."""


class Guarded(Protocol):
    """A service that knows its consortium."""

    consortium: str


class Refusal(NamedTuple):
    """How a call ends that has failed."""

    code: grpc.StatusCode
    text: str
    trailing: tuple[tuple[str, str | bytes], ...]


def guarded(*roles: Role) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a service method take the verified caller as its last argument, and only callers of these roles in.

    Works for methods that return a response, generators of responses, and coroutines. The server ends the call of a
    method that raises, see `refusal_of`.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        def admitted(service: Guarded, context: Caller) -> Party:
            peer = peer_of(context)
            if peer.consortium != service.consortium:
                raise MpleError(ErrorCode.FOREIGN_CONSORTIUM, f"{peer.uri} calls consortium {service.consortium}")
            if peer.role not in roles:
                raise MpleError(ErrorCode.ROLE_NOT_ALLOWED, f"{peer.label} calls {method.__name__}")
            return peer

        @functools.wraps(method)
        def call(service: Guarded, request: object, context: Caller) -> object:
            return method(service, request, context, admitted(service, context))

        @functools.wraps(method)
        async def coroutine(service: Guarded, request: object, context: Caller) -> object:
            return await method(service, request, context, admitted(service, context))

        return coroutine if inspect.iscoroutinefunction(method) else call

    return decorate


def refusal_of(fault: Exception, caller: Caller, method: str) -> Refusal:
    """How a served call ends because of `fault`: the caller is told what the catalogue allows, the log the rest.

    A `MpleError` ends it with its code; any other exception is logged with its traceback and ends it as INTERNAL. A
    fault of the disk ends it as STORAGE_FULL, and the node after it. Refusals are audited.
    """
    error, told = error_for(fault), True
    try:
        # With the consortium where it is another: names are unique within one only.
        who = peer_of(caller).uri if error.code is ErrorCode.FOREIGN_CONSORTIUM else label_of(caller)
        told = audit_refusal(who, error.code, method=method, detail=error.detail)
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
    return Refusal(error.code.status, str(error)[:_MOST_TEXT], ((METADATA_KEY, error.code.value), *fix))
