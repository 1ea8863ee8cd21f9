"""A node's line to the coordinator: join, follow the run's events across broken links, move sealed envelopes.

Events are followed by sequence number: after a broken stream the next one goes on behind the last event seen.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import grpc

from mple.audit import audit, audit_head
from mple.disk.storage_faults import noted_storage_fault, raise_storage_fault, storage_fault_of
from mple.meter import LedgerTotals
from mple.node.logs import log
from mple.node.stop import Stop
from mple.pki import verify_certificate
from mple.plan import RunPlan
from mple.plan.run_plan import PlanError
from mple.rpc import AwayError, ErrorCode, MpleError, Party, TlsError, TlsFiles, error_of, probe
from mple.rpc.settings import PING_EVERY_MS, PING_TIMEOUT_MS
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc

T = TypeVar("T")
_LOGGER = logging.getLogger("mple.node")
_DEADLINE_S = 30.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 20.0
_LONGEST_ROUND_S = 60.0
"""More than a pause and an attempt together take; if longer has gone by, this process was stopped meanwhile."""
_PROBE_EVERY = 8
_TOTALS_S = 30.0
AUDIT_HEAD_KEY = "mple-audit-head"
"""Metadata of `Join` and `Report`: sequence number and SHA-256 of the caller's newest audit line."""
CONNECTED_S = (PING_EVERY_MS + PING_TIMEOUT_MS) / 1000 + 20.0
"""Longer than connecting (20 s at most) and noticing a dead link by its pings together can take."""
# Without a code of ours: INTERNAL is not among them, for gRPC says it of streams that break, too.
_FATAL = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}


class UnreachableError(ConnectionError):
    """A party did not answer in time, or the TLS connection to it can't work; the text says why."""


class StoppedError(Exception):
    """The node was told to stop while it waited."""


@dataclass(slots=True)
class RetryState:
    """A party's absence as one repeated call sees it."""

    tries: int = 0
    """Failed attempts since the last success."""
    seen_s: float = 0.0
    """When the last of them failed."""
    spent_s: float = 0.0
    """Time since the first of them failed, leaps in which this process stood still left out."""


class RetryPolicy:
    """Repeats calls to one address while its party is away, within a budget of time without success.

    The budget runs from the first failure on, not while a call or a stream works. A refusal ends the waiting at once,
    and so does a certificate fault: trying again can't mend it.
    """

    def __init__(
        self,
        address: str,
        tls: TlsFiles,
        stop: Stop,
        budget_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._tls, self._stop, self._budget_s = address, tls, stop, budget_s
        self.clock = clock

    def within(self, budget_s: float) -> RetryPolicy:
        """The same with a budget of `budget_s` seconds, if that is less."""
        budget_s = min(budget_s, self._budget_s)
        return RetryPolicy(self._address, self._tls, self._stop, budget_s, self.clock)

    def call(self, attempt: Callable[[], T]) -> T:
        """The result of the first attempt that the party answers.

        An attempt that failed after more than `CONNECTED_S` seconds had a connection; the budget starts anew then.

        Raises:
            MpleError: The party refused.
            UnreachableError: It stayed away for the budget, or TLS can't work.
            StoppedError: The node is to stop.
        """
        outage = RetryState()
        while True:
            began_s = self.clock()
            try:
                return attempt()
            except TlsError as fault:
                raise UnreachableError(str(fault)) from None
            except (grpc.RpcError, AwayError) as fault:
                self.pause(fault, outage, began_s)

    def pause(self, fault: grpc.RpcError | AwayError, outage: RetryState, began_s: float) -> None:
        """Wait by full jitter after an attempt that began at `began_s` on `clock` failed, or raise as `call` does."""
        raise_storage_fault()  # a ledger that can't be written looks like a broken call
        refusal = None
        if isinstance(fault, grpc.RpcError):
            refusal = error_of(fault)
            self._raise_if_final(fault, refusal)
        if self._stop.is_set():
            raise StoppedError from None
        now_s = self.clock()
        if now_s - began_s > CONNECTED_S:
            outage.tries = 0
        if outage.tries == 0:
            outage.spent_s = 0.0
        else:
            outage.spent_s += min(now_s - outage.seen_s, _LONGEST_ROUND_S)
        outage.seen_s = now_s
        left_s = self._budget_s - outage.spent_s
        why = str(refusal or f"{self._address} is away")
        if refusal is None and (outage.tries % _PROBE_EVERY == 0 or left_s <= 0):
            probed = probe(self._address, self._tls)
            if probed.fault is not None and not probed.away:
                raise UnreachableError(probed.fault) from None
            why = probed.fault or f"{self._address} breaks off calls: {_brief(fault)}"
        if left_s <= 0:
            raise UnreachableError(f"gave up on {self._address} after {self._budget_s:g} s: {why}") from None
        delay_s = random.uniform(0, min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(outage.tries, 10)))  # noqa: S311
        outage.tries += 1
        log(_LOGGER, logging.INFO, "retry", f"{why}; next try in {delay_s:.1f} s", tries=outage.tries)
        if self._stop.wait(min(delay_s, left_s)):
            raise StoppedError from None

    def _raise_if_final(self, fault: grpc.RpcError, refusal: MpleError | None) -> None:
        if refusal is not None and not refusal.retryable:
            raise refusal from None
        if refusal is None and isinstance(fault, grpc.Call) and fault.code() in _FATAL:
            raise MpleError(ErrorCode.INTERNAL, f"{self._address} answered {_brief(fault)}") from fault


def _brief(fault: grpc.RpcError | AwayError) -> str:
    return f"{fault.code().name} {fault.details()}" if isinstance(fault, grpc.Call) else str(fault)


class CoordinatorClient:
    """The calls that sites and compute nodes make to their coordinator."""

    def __init__(self, channel: grpc.Channel, retry: RetryPolicy) -> None:
        self.channel = channel
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        self.retry = retry

    def join(self, request: coordinator_pb2.JoinRequest) -> str:
        """Announce the party and return the run's id."""
        response = self.retry.call(lambda: self.stub.Join(request, timeout=_DEADLINE_S, metadata=_head()))
        return str(response.run_id)

    def events(self, after: int = 0) -> Iterator[coordinator_pb2.WatchResponse]:
        """All events of the run behind a sequence number, across broken links, until the run has ended.

        Behind the end there are events of keys only, without an end of their own.

        Raises:
            MpleError, UnreachableError, StoppedError: As `RetryPolicy.call`.
        """
        seen = after
        outage = RetryState()
        while True:
            began_s = self.retry.clock()
            fault: grpc.RpcError | AwayError = AwayError("the coordinator ended its events before the run had ended")
            stream = self.stub.Watch(coordinator_pb2.WatchRequest(after_sequence=seen))
            try:
                for event in stream:
                    seen, outage.tries = event.sequence, 0
                    yield event
                    if ended(event):
                        return
            except grpc.RpcError as broken:
                fault = broken
            finally:
                stream.cancel()
            self.retry.pause(fault, outage, began_s)

    def report(self, request: coordinator_pb2.ReportRequest) -> None:
        """Tell the coordinator something; returns once it knows."""
        self.retry.call(lambda: self.stub.Report(request, timeout=_DEADLINE_S, metadata=_head()))

    def report_totals(self, totals: LedgerTotals) -> None:
        """Tell the coordinator this node's sums after the run has finished.

        For a while only: a coordinator that took them may have ended before its answer came through.
        """
        request = coordinator_pb2.ReportRequest(
            ledger_totals=coordinator_pb2.LedgerTotals(
                messages_sent=totals.messages_sent,
                messages_received=totals.messages_received,
                bytes_sent=totals.bytes_sent,
                bytes_received=totals.bytes_received,
            )
        )
        try:
            self.retry.within(_TOTALS_S).call(lambda: self.stub.Report(request, timeout=_DEADLINE_S, metadata=_head()))
        except UnreachableError as fault:
            log(_LOGGER, logging.WARNING, "totals_lost", f"the coordinator may not know this node's sums: {fault}")

    def report_failure(self, fault: Exception) -> None:
        """Tell the coordinator, once and as well as may be, that this party can't go on.

        Of what a restart mends it hears nothing, for the run must not end for that: a full disk, a party that could
        not be reached, a node that was stopped, a certificate that was revoked.
        """
        if noted_storage_fault() is not None or storage_fault_of(fault) is not None:
            return
        if isinstance(fault, UnreachableError | StoppedError | grpc.RpcError):
            return
        if isinstance(fault, MpleError) and fault.code in (ErrorCode.GOING_DOWN, ErrorCode.CERTIFICATE_REVOKED):
            return
        code = fault.code.value if isinstance(fault, MpleError) else ErrorCode.INTERNAL.value
        audit("local", "failure_report", code, text=str(fault))
        request = coordinator_pb2.ReportRequest(failure=coordinator_pb2.Failure(code=code, text=str(fault)[:500]))
        try:
            self.stub.Report(request, timeout=5.0)
        except grpc.RpcError as second:
            log(_LOGGER, logging.WARNING, "report_lost", f"the coordinator did not take the failure report: {second}")


def _head() -> tuple[tuple[str, str], ...]:
    """This node's newest audit line, for the coordinator to keep: the node can't cut its trail unseen after that."""
    head = audit_head()
    return () if head is None else ((AUDIT_HEAD_KEY, f"{head.sequence}:{head.sha256}"),)


def ended(event: coordinator_pb2.WatchResponse) -> bool:
    """Whether this event ends the run."""
    return event.WhichOneof("event") == "phase_changed" and event.phase_changed.phase in (
        coordinator_pb2.PHASE_FINISHED,
        coordinator_pb2.PHASE_FAILED,
    )


def phase_name(event: coordinator_pb2.PhaseChanged) -> str:
    """The phase that the run has entered, in lower case.

    Raises:
        MpleError: MESSAGE_MALFORMED for a phase that this program does not know.
    """
    if event.phase not in coordinator_pb2.Phase.values():
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"the coordinator announces phase {event.phase}, which is none")
    return coordinator_pb2.Phase.Name(event.phase).removeprefix("PHASE_").lower()


def read_plan(event: coordinator_pb2.PlanMade) -> RunPlan:
    """The plan of an event, its hash checked.

    Raises:
        MpleError: PLAN_HASH_MISMATCH when text and hash differ or the text is no plan of this version.
    """
    try:
        plan = RunPlan.from_json(event.plan_json)
    except PlanError as fault:
        raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, str(fault)) from None
    if plan.sha256() != event.plan_sha256:
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"the plan hashes to {plan.sha256().hex()[:16]}, the coordinator says {event.plan_sha256.hex()[:16]}",
        )
    return plan


def certificate_of(event: coordinator_pb2.PlanMade, party: Party, ca_pem: bytes) -> bytes:
    """A party's certificate (DER) from the plan's list, checked against this node's own authority.

    Raises:
        MpleError: UNIDENTIFIED when none of them is this party's under that authority.
    """
    for der in event.certificates_der:
        try:
            verify_certificate(der, ca_pem, party)
        except ValueError:
            continue
        return der
    raise MpleError(ErrorCode.UNIDENTIFIED, f"the coordinator sent no valid certificate of {party.label}")
