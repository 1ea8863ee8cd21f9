"""Calls that are repeated while their party is away, within a budget of time without success.

The budget runs from the first failure on, not while a call or a stream works, and time in which this process itself
stood still does not count. Whatever moves renews it: a stream that was let in, a byte more of a file that is kept. A
refusal ends the waiting at once, and so does a certificate fault: trying again can't mend it. A name that can't be
looked up may be known again a minute later, and this process may have descriptors again: both are waited for. Clock,
jitter, and whoever explains a failure are handed in.
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import grpc

from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import raise_storage_fault
from mple.node.logs import log
from mple.node.stop import Stop
from mple.records.log_events import LogEvent
from mple.rpc import AwayError, ErrorCode, MpleError, TlsError, TlsFiles, error_of, probe
from mple.rpc.admission import ACCEPTED_KEY
from mple.rpc.settings import PING_EVERY_MS, PING_TIMEOUT_MS, RECEIVE_LIMIT_BYTES
from mple.rpc.tls import Probed

T = TypeVar("T")
CONNECTED_S = (PING_EVERY_MS + PING_TIMEOUT_MS) / 1000 + 20.0
"""Longer than connecting (20 s at most) and noticing a dead link by its pings together can take."""
LONGEST_ROUND_S = 60.0
"""More than a pause and an attempt together take; if longer has gone by, this process was stopped meanwhile."""
EXPLAIN_EVERY = 8
"""Failed attempts from one explanation to the next."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 20.0
# Without a code of ours: INTERNAL is not among them, for gRPC says it of streams that break, too.
# Nor UNAUTHENTICATED: gRPC says it of a server's certificate for another host, which the explanation tells better.
_FATAL = {
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
_TOO_LARGE = re.compile(r"larger than max|metadata size exceeds")
"""What gRPC says of a message or a header beyond a limit, with a code that else means that somebody is busy."""
_STOPPED = {ErrorCode.GOING_DOWN, ErrorCode.STORAGE_FULL, ErrorCode.OUT_OF_RESOURCES}
"""Said by a party that ends its streams because it itself does, not because of what was in them."""


class UnreachableError(ConnectionError):
    """A party did not answer in time, or the TLS connection to it can't work; the text says why."""


class StoppedError(Exception):
    """The node was told to stop while it waited."""


@dataclass(slots=True)
class RetryState:
    """A party's absence as one repeated call sees it."""

    tries: int = 0
    """Failed attempts since the last success or sign of progress."""
    seen_s: float = 0.0
    """When the last of them failed."""
    spent_s: float = 0.0
    """Time since the first of them failed, leaps in which this process stood still left out."""
    progress: int = 0
    """How far what is called for was when the last of them failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Repeats calls to one address while its party is away."""

    address: str
    """For the texts."""
    stop: Stop
    """Ends every wait."""
    budget_s: float
    """Longest time without success, in seconds."""
    explain: Callable[[], Probed]
    """Looks why calls fail. What no repetition can mend (`fault` without `away`) ends the waiting."""
    require_disk: Callable[[], None]
    """Raises this node's own fault of the disk: a ledger that can't be written looks like a broken call."""
    clock: Callable[[], float] = time.monotonic
    """Seconds."""
    jitter: Callable[[float, float], float] = random.uniform
    """Draws a pause between two bounds in seconds."""

    @classmethod
    def to(cls, address: str, tls: TlsFiles, stop: Stop, budget_s: float) -> RetryPolicy:
        """For calls over TLS: a handshake of its own explains why they fail."""
        explain = functools.partial(probe, address, tls)
        return cls(address=address, stop=stop, budget_s=budget_s, explain=explain, require_disk=raise_storage_fault)

    def within(self, budget_s: float) -> RetryPolicy:
        """The same with a budget of `budget_s` seconds, if that is less."""
        return replace(self, budget_s=min(budget_s, self.budget_s))

    def call(self, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0, *, lasting: bool = False) -> T:
        """The result of the first attempt that the party answers.

        The budget starts anew after an attempt that failed after more than `CONNECTED_S` seconds, and so had a
        connection, after one that `progress` has grown by and, if `lasting`, one that was let in.

        Args:
            attempt: Makes the call.
            progress: How far what is called for is, by what the party has accepted.
            lasting: The call is a stream without an end of its own, so that to be let in is all that it is made for.

        Raises MpleError: the party refused; UnreachableError: it stayed away for the budget, or TLS can't work;
        StoppedError: the node is to stop; OSError: this node's disk refuses, or it had no descriptors for the budget.
        """
        outage = RetryState(progress=progress())
        while True:
            began_s = self.clock()
            try:
                return attempt()
            except TlsError as fault:
                raise UnreachableError(str(fault)) from None
            except Exception as fault:
                if not isinstance(fault, grpc.RpcError | AwayError) and scarcity_of(fault) is None:
                    raise
                if progress() > outage.progress:
                    outage.tries, outage.progress = 0, progress()
                self.pause(fault, outage, began_s, lasting=lasting)

    def pause(self, fault: Exception, outage: RetryState, began_s: float, *, lasting: bool = False) -> None:
        """Wait by full jitter after an attempt that began at `began_s` on `clock` failed, or raise as `call` does."""
        self.require_disk()
        refusal = None
        if isinstance(fault, grpc.RpcError):
            refusal = error_of(fault)
            self._raise_if_final(fault, refusal)
            if lasting and _let_in(fault) and (refusal is None or refusal.code in _STOPPED):
                outage.tries = 0
        if self.stop.is_set():
            raise StoppedError from None
        left_s = self.budget_s - _spent_s(outage, began_s, self.clock())
        if left_s <= 0 and scarcity_of(fault) is not None:
            raise fault
        why = str(refusal or f"{self.address} is away")
        if scarcity_of(fault) is not None:
            why = f"this node is out of resources: {fault}"
        elif refusal is None and (outage.tries % EXPLAIN_EVERY == 0 or left_s <= 0):
            seen = self.explain()
            if seen.fault is not None and not seen.away:
                raise UnreachableError(seen.fault) from None
            why = seen.fault or f"{self.address} breaks off calls: {_brief(fault)}"
        if left_s <= 0:
            raise UnreachableError(f"gave up on {self.address} after {self.budget_s:g} s: {why}") from None
        delay_s = self.jitter(0, min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(outage.tries, 10)))
        outage.tries += 1
        log(LogEvent.RETRY, f"{why}; next try in {delay_s:.1f} s", tries=outage.tries)
        if self.stop.wait(min(delay_s, left_s)):
            raise StoppedError from None

    def _raise_if_final(self, fault: grpc.RpcError, refusal: MpleError | None) -> None:
        if refusal is not None and refusal.code is ErrorCode.INTERNAL:
            raise MpleError(refusal.code, f"at {self.address}") from None  # who hears of it shall know whose it was
        if refusal is not None and not refusal.retryable:
            raise refusal from None
        if refusal is not None or not isinstance(fault, grpc.Call):
            return
        if fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE.search(fault.details() or ""):
            text = f"{self.address}: {_brief(fault)}; a message may have {RECEIVE_LIMIT_BYTES} bytes"
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, text) from fault
        if fault.code() in _FATAL:
            raise MpleError(ErrorCode.INTERNAL, f"{self.address} answered {_brief(fault)}") from fault


def _spent_s(outage: RetryState, began_s: float, now_s: float) -> float:
    """Enter a failure in the outage, and return the time without success so far."""
    if now_s - began_s > CONNECTED_S:
        outage.tries = 0
    if outage.tries == 0:
        outage.spent_s = 0.0
    else:
        outage.spent_s += min(now_s - outage.seen_s, LONGEST_ROUND_S)
    outage.seen_s = now_s
    return outage.spent_s


def _let_in(fault: grpc.RpcError) -> bool:
    """Whether a call that has ended was a stream that the party had let in."""
    return isinstance(fault, grpc.Call) and any(key == ACCEPTED_KEY for key, _ in fault.initial_metadata() or ())


def _brief(fault: Exception) -> str:
    return f"{fault.code().name} {fault.details()}" if isinstance(fault, grpc.Call) else str(fault)
