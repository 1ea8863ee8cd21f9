"""How two parties come together: the server waits for one client, the client dials; each gets its end of the link."""

import queue
import threading
from collections.abc import Callable, Iterator

from comparison.two_party.link import Link, Outbox
from comparison.two_party.read_deadline import DeadlineIterator
from comparison.v1 import two_party_pb2, two_party_pb2_grpc
from mple.rpc import ErrorCode, MpleError, Party, Role, guarded
from mple.rpc.call import Call
from mple.rpc.metering import MeteredChannel


class TwoPartyService(two_party_pb2_grpc.TwoPartyServiceServicer):
    """Hands the link of the one client that it serves to whoever waits in `accept`."""

    def __init__(self, consortium: str) -> None:
        """Serve parties of this consortium."""
        self.consortium = consortium
        self._links: queue.Queue[Link] = queue.Queue()
        self._taken = threading.Lock()
        self._fault: MpleError | None = None

    @guarded(Role.SITE)
    def Exchange(
        self, request: Iterator[two_party_pb2.ExchangeRequest], context: Call, caller: Party
    ) -> Iterator[two_party_pb2.ExchangeResponse]:
        """Both parties' frames, until this one has finished."""
        if not self._taken.acquire(blocking=False):
            raise MpleError(ErrorCode.DUPLICATE_STREAM, f"this server serves one client; {caller.label} is another")
        outbox: Outbox[two_party_pb2.ExchangeResponse] = Outbox()
        if not context.add_callback(outbox.break_off):
            return
        self._links.put(Link(outbox, request, two_party_pb2.ExchangeResponse, context.cancel))
        yield from outbox
        if self._fault is not None:
            raise self._fault

    def accept(self, timeout_s: float) -> Link:
        """The first client's link. Raises MpleError: STALLED: no client came within the time."""
        try:
            return self._links.get(timeout=timeout_s)
        except queue.Empty:
            raise MpleError(ErrorCode.STALLED, f"no client came within {timeout_s:g} s") from None

    def fail(self, link: Link, fault: MpleError) -> None:
        """End the call with an error that the client is told."""
        self._fault = fault
        link.finish()


def dial(channel: MeteredChannel, idle_s: float) -> Link:
    """The client's end.

    Args:
        channel: To the server.
        idle_s: Longest wait for a frame that is due, in seconds.
    """
    outbox: Outbox[two_party_pb2.ExchangeRequest] = Outbox()
    call = two_party_pb2_grpc.TwoPartyServiceStub(channel).Exchange(iter(outbox))
    if not call.add_callback(outbox.break_off):
        outbox.break_off()
    reading = _Reading()
    incoming = DeadlineIterator(call, reading, idle_s)

    def break_off() -> None:
        call.cancel()
        reading.end()

    return Link(outbox, incoming, two_party_pb2.ExchangeRequest, break_off)


class _Reading:
    """Ends a client's reading ahead when the client says so, not with the call: gRPC tells a call's end before the
    last messages have been read."""

    def __init__(self) -> None:
        self._on_end: Callable[[], None] = lambda: None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """What ends it."""
        self._on_end = callback
        return True

    def end(self) -> None:
        """Read no more."""
        self._on_end()
