"""A node's line to the coordinator: join, follow the run's events across broken links, move sealed envelopes.

Events are followed by sequence number: after a broken stream the next one goes on behind the last event seen.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from mple.node.logs import log
from mple.pki import verify_certificate
from mple.plan import RunPlan
from mple.plan.run_plan import PlanError
from mple.rpc import AwayError, ErrorCode, MpleError, Party, TlsError, TlsFiles, error_of, probe
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc

T = TypeVar("T")
_LOGGER = logging.getLogger("mple.node")
_DEADLINE_S = 30.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 20.0
_FATAL = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
}


class UnreachableError(ConnectionError):
    """A party did not answer in time, or the TLS connection to it can't work; the text says why."""


class StoppedError(Exception):
    """The node was told to stop while it waited."""


class Persistence:
    """Repeats calls to one address while its party is away, within a budget of time without success.

    A refusal ends the waiting at once, and so does a certificate fault: trying again can't mend it.
    """

    def __init__(self, address: str, tls: TlsFiles, stop: threading.Event, budget_s: float) -> None:
        self._address, self._tls, self._stop, self._budget_s = address, tls, stop, budget_s

    def call(self, attempt: Callable[[], T]) -> T:
        """The result of the first attempt that the party answers.

        Raises:
            MpleError: The party refused.
            UnreachableError: It stayed away for the budget, or TLS can't work.
            StoppedError: The node is to stop.
        """
        give_up_at = time.monotonic() + self._budget_s
        tries = 0
        while True:
            try:
                return attempt()
            except TlsError as fault:
                raise UnreachableError(str(fault)) from None
            except (grpc.RpcError, AwayError) as fault:
                self.pause(fault, tries, give_up_at)
                tries += 1

    def pause(self, fault: grpc.RpcError | AwayError, tries: int, give_up_at: float) -> None:
        """Wait before the next attempt, by full jitter, or raise as `call` does."""
        if isinstance(fault, grpc.RpcError):
            self._raise_if_refused(fault)
        if self._stop.is_set():
            raise StoppedError from None
        probed = probe(self._address, self._tls) if tries % 8 == 0 else None
        if probed is not None and probed.fault is not None and not probed.away:
            raise UnreachableError(probed.fault) from None
        if time.monotonic() >= give_up_at:
            raise UnreachableError(f"{self._address} did not answer for {self._budget_s:g} s; is it running?") from None
        delay_s = random.uniform(0, min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(tries, 10)))  # noqa: S311
        log(_LOGGER, logging.INFO, "retry", f"{self._address} is away, next try in {delay_s:.1f} s", tries=tries + 1)
        if self._stop.wait(delay_s):
            raise StoppedError from None

    def _raise_if_refused(self, fault: grpc.RpcError) -> None:
        refusal = error_of(fault)
        code = fault.code() if isinstance(fault, grpc.Call) else None
        if refusal is not None and not refusal.retryable:
            raise refusal from None
        if refusal is None and code in _FATAL:
            details = fault.details() if isinstance(fault, grpc.Call) else ""
            raise MpleError(ErrorCode.INTERNAL, f"{self._address} answered {code}: {details}") from fault


class CoordinatorLine:
    """The calls that sites and compute nodes make to their coordinator."""

    def __init__(self, channel: grpc.Channel, persistence: Persistence) -> None:
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        self.persistence = persistence

    def join(self, request: coordinator_pb2.JoinRequest) -> str:
        """Announce the party and return the run's id."""
        response = self.persistence.call(lambda: self.stub.Join(request, timeout=_DEADLINE_S))
        return str(response.run_id)

    def events(self) -> Iterator[coordinator_pb2.WatchResponse]:
        """All events of the run from its first on, across broken links, until the run has ended.

        Raises:
            MpleError, UnreachableError, StoppedError: As `Persistence.call`.
        """
        seen = 0
        tries = 0
        give_up_at = time.monotonic() + self.persistence._budget_s
        while True:
            stream = self.stub.Watch(coordinator_pb2.WatchRequest(after_sequence=seen))
            try:
                for event in stream:
                    seen, tries = event.sequence, 0
                    give_up_at = time.monotonic() + self.persistence._budget_s
                    yield event
                    if ended(event):
                        return
            except grpc.RpcError as fault:
                self.persistence.pause(fault, tries, give_up_at)
                tries += 1
            finally:
                stream.cancel()

    def report(self, request: coordinator_pb2.ReportRequest) -> None:
        """Tell the coordinator something; returns once it knows."""
        self.persistence.call(lambda: self.stub.Report(request, timeout=_DEADLINE_S))

    def report_failure(self, fault: Exception) -> None:
        """Tell the coordinator, once and as well as may be, that this party can't go on."""
        code = fault.code.value if isinstance(fault, MpleError) else ErrorCode.INTERNAL.value
        request = coordinator_pb2.ReportRequest(failure=coordinator_pb2.Failure(code=code, text=str(fault)[:500]))
        try:
            self.stub.Report(request, timeout=5.0)
        except grpc.RpcError as second:
            log(_LOGGER, logging.WARNING, "report_lost", f"the coordinator did not take the failure report: {second}")


def ended(event: coordinator_pb2.WatchResponse) -> bool:
    """Whether this event ends the run."""
    return event.WhichOneof("event") == "phase_changed" and event.phase_changed.phase in (
        coordinator_pb2.PHASE_FINISHED,
        coordinator_pb2.PHASE_FAILED,
    )


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
