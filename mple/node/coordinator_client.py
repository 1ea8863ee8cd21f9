"""A node's calls to its coordinator: join, follow the run's events across broken links, move sealed envelopes.

Events are followed by sequence number: after a broken stream the next one goes on behind the last event seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from mple.audit import audit, audit_head
from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import noted_storage_fault, storage_fault_of
from mple.meter.ledger import LedgerTotals
from mple.node.logs import warn
from mple.node.retry import RetryPolicy, RetryState, StoppedError, UnreachableError
from mple.node.run_events import ended
from mple.rpc import AwayError, ErrorCode, MpleError
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc

_DEADLINE_S = 30.0
_TOTALS_S = 30.0
_FAILURE_S = 15.0
"""Longer than a coordinator takes that is just being started again."""
AUDIT_HEAD_KEY = "mple-audit-head"
"""Metadata of `Join` and `Report`: sequence number and SHA-256 of the caller's newest audit line."""


class CoordinatorClient:
    """The calls that sites and compute nodes make to their coordinator."""

    def __init__(self, channel: grpc.Channel, retry: RetryPolicy) -> None:
        self.channel = channel
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        self.retry = retry

    def ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[Any, Any],
        request: Message,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """The answer to a single request, asked again as `RetryPolicy.call` does; the wish to end breaks it off.

        Args:
            method: Of `stub`.
            request: Its message.
            metadata: Names and values to go with it.
        """

        def attempt() -> Any:
            call = method.future(request, timeout=_DEADLINE_S, metadata=metadata)
            withdraw = self.retry.stop.on_set(call.cancel)
            try:
                return call.result()
            except grpc.FutureCancelledError:
                raise StoppedError from None
            finally:
                withdraw()

        return self.retry.call(attempt)

    def join(self, request: coordinator_pb2.JoinRequest) -> str:
        """Announce the party and return the run's id."""
        return str(self.ask(self.stub.Join, request, _head()).run_id)

    def events(self, after: int = 0) -> Iterator[coordinator_pb2.WatchResponse]:
        """All events of the run behind a sequence number, across broken links, until the run has ended.

        Behind the end there are events of keys only, without an end of their own.

        Raises MpleError, UnreachableError, StoppedError: as `RetryPolicy.call`.
        """
        seen = after
        outage = RetryState()
        while True:
            began_s = self.retry.clock()
            fault: Exception = AwayError("the coordinator ended its events before the run had ended")
            stream = self.stub.Watch(coordinator_pb2.WatchRequest(after_sequence=seen))
            withdraw = self.retry.stop.on_set(stream.cancel)
            try:
                for event in stream:
                    seen, outage.tries = event.sequence, 0
                    yield event
                    if ended(event):
                        return
            except grpc.RpcError as broken:
                fault = broken
            finally:
                withdraw()
                stream.cancel()
            self.retry.pause(fault, outage, began_s, lasting=True)

    def report(self, request: coordinator_pb2.ReportRequest) -> None:
        """Tell the coordinator something; returns once it knows."""
        self.ask(self.stub.Report, request, _head())

    def report_totals(self, totals: LedgerTotals, rank: int = 0) -> None:
        """Tell the coordinator this process's sums after the run has finished; `rank` is that of a compute node. For a
        while only: a coordinator that took them may have ended before its answer came through."""
        request = coordinator_pb2.ReportRequest(
            ledger_totals=coordinator_pb2.LedgerTotals(
                messages_sent=totals.messages_sent,
                messages_received=totals.messages_received,
                bytes_sent=totals.bytes_sent,
                bytes_received=totals.bytes_received,
                rank=rank,
            )
        )
        try:
            CoordinatorClient(self.channel, self.retry.within(_TOTALS_S)).report(request)
        except UnreachableError as fault:
            warn("totals_lost", f"the coordinator may not know this node's sums: {fault}")

    def report_failure(self, fault: Exception) -> None:
        """Tell the coordinator that this party can't go on; for a while only, for it may have ended. What a restart
        mends is not reported, for it must not end the run: a full disk, want of descriptors, memory or threads, a party
        that could not be reached, a node that was stopped, a certificate that was revoked."""
        if noted_storage_fault() is not None or storage_fault_of(fault) is not None:
            return
        if isinstance(fault, UnreachableError | StoppedError | grpc.RpcError) or scarcity_of(fault) is not None:
            return
        if isinstance(fault, MpleError) and fault.code in (ErrorCode.GOING_DOWN, ErrorCode.CERTIFICATE_REVOKED):
            return
        code = fault.code.value if isinstance(fault, MpleError) else ErrorCode.INTERNAL.value
        audit("local", "failure_report", code, text=str(fault))
        request = coordinator_pb2.ReportRequest(failure=coordinator_pb2.Failure(code=code, text=str(fault)[:500]))
        try:
            CoordinatorClient(self.channel, self.retry.within(_FAILURE_S)).ask(self.stub.Report, request)
        except (MpleError, UnreachableError, StoppedError) as second:
            warn("report_lost", f"the coordinator did not take the failure report: {second}")


def _head() -> tuple[tuple[str, str], ...]:
    """This node's newest audit line, for the coordinator to keep: the node can't cut its trail unseen after that."""
    head = audit_head()
    return () if head is None else ((AUDIT_HEAD_KEY, f"{head.sequence}:{head.sha256}"),)
