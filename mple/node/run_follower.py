"""A node's way through a run: the coordinator's events in their order, and whatever ends the node between them.

Events come from a thread of their own, and a node has other threads at work meanwhile. All of them report to one
queue, which the node's main thread takes from: an event, a fault, or the wish that the node end.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from types import TracebackType

from mple.audit import audit_call
from mple.meter import Ledger
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log_to_file
from mple.node.retry import StoppedError
from mple.node.run_events import ended, phase_name
from mple.node.stop import Stop
from mple.node.worker import Worker
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2

_GRACE_S = 10.0
_BEFORE_THE_PLAN = {"party_joined", "certificates", "fault"}
_BEFORE_TRAINING = {*_BEFORE_THE_PLAN, "plan_made", "envelope_left", "layer_released", "layer_wanted"}
_MOST_CERTIFICATES = 100_000


class RunFollower:
    """An iterator over the run's events up to its end, for one thread; a context manager around all of the run.

    Each phase is entered in ledger and audit trail before its event is handed out.

    Guarantees: a fault that any worker ends with, or that ends the events, is raised by the next step of the iterator,
    and one that comes behind the run's end is in the log. The wish to end wakes the iterator. On the way out by an
    exception the coordinator hears of it, the node's other threads are asked to end, and all workers are waited for.
    """

    def __init__(self, client: CoordinatorClient, ledger: Ledger, stop: Stop) -> None:
        self._client, self._ledger, self._stop = client, ledger, stop
        self._news: queue.SimpleQueue[coordinator_pb2.WatchResponse | Exception] = queue.SimpleQueue()
        self._workers: list[Worker] = []
        self._ended = False
        self.sequence = 0
        """Number of the newest event that was handed out."""
        self.certificates: dict[str, bytes] = {}
        """DER certificates that came before the plan, to seal envelopes to, by label; nobody has checked them."""

    def __enter__(self) -> RunFollower:
        self._withdraw = self._stop.on_set(lambda: self._news.put(StoppedError()))
        Worker("events", self._read, self.fail)
        return self

    def __exit__(self, _kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        self._withdraw()
        if isinstance(fault, Exception):
            if not self._ended:
                self._client.report_failure(fault)
            self._stop.set()
        for worker in self._workers:
            worker.join(_GRACE_S)
        self._log_rest()

    def fail(self, fault: Exception) -> None:
        """A thread of this node can't go on. Callable from any thread."""
        self._news.put(fault)

    def start(self, name: str, body: Callable[[], None]) -> Worker:
        """Begin a worker of the run: its fault ends the node, and the node's end waits for it."""
        worker = Worker(name, body, self.fail)
        self._workers.append(worker)
        return worker

    def __iter__(self) -> RunFollower:
        return self

    def __next__(self) -> coordinator_pb2.WatchResponse:
        """The next event; the last one is that of the run's good end.

        Raises StopIteration: that was handed out already; StoppedError: the node is to end; MpleError: RUN_FAILED, the
        coordinator refused, or announced what can't be; UnreachableError: the coordinator stayed away for too long;
        Exception: what a worker ended with.
        """
        if self._ended:
            raise StopIteration
        news = self._news.get()
        if self._stop.is_set():
            raise StoppedError
        if isinstance(news, Exception):
            raise news
        self.sequence = news.sequence
        if news.WhichOneof("event") == "phase_changed":
            phase = phase_name(news.phase_changed)
            self._ledger.phase = phase
            audit_call("local", "phase", "ok", phase=phase)  # as often as the coordinator says so
        if ended(news):
            self._ended = True
            if news.phase_changed.phase == coordinator_pb2.PHASE_FAILED:
                raise MpleError(ErrorCode.RUN_FAILED, news.phase_changed.reason)
        return news

    def plan_made(self) -> coordinator_pb2.PlanMade:
        """The run's plan, as soon as it is made.

        Raises MpleError: WRONG_PHASE when the run goes on without one; else as `__next__`.
        """
        gathering = coordinator_pb2.PHASE_GATHERING
        for event in self:
            if event.WhichOneof("event") == "plan_made":
                return event.plan_made
            self.certificates |= {one.party: one.der for one in event.certificates.parties}
            if len(self.certificates) > _MOST_CERTIFICATES:
                text = f"the coordinator sent {len(self.certificates):,} certificates"
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
            if event.WhichOneof("event") not in _BEFORE_THE_PLAN and event.phase_changed.phase != gathering:
                break
        raise MpleError(ErrorCode.WRONG_PHASE, "the coordinator went on before there was a plan")

    def envelope_left(self) -> None:
        """Wait until the coordinator says that there is an envelope for this party.

        Raises MpleError: WRONG_PHASE when the run goes on without one; else as `__next__`.
        """
        for event in self:
            kind = event.WhichOneof("event")
            if kind == "envelope_left":
                return
            if kind not in _BEFORE_TRAINING:
                break
        raise MpleError(ErrorCode.WRONG_PHASE, "the coordinator went on before there was an envelope for this party")

    def enter(
        self,
        phase: coordinator_pb2.Phase,
        on_event: Callable[[coordinator_pb2.WatchResponse], None] = lambda _event: None,
    ) -> None:
        """Wait for the run's next phase; `on_event` gets each event before it.

        Raises MpleError: WRONG_PHASE when it is another one, or keys change before; else as `__next__`.
        """
        for event in self:
            if event.phase_changed.phase == phase:
                return
            if event.WhichOneof("event") not in _BEFORE_TRAINING:
                break
            on_event(event)
        due = coordinator_pb2.Phase.Name(phase).removeprefix("PHASE_").lower()
        raise MpleError(ErrorCode.WRONG_PHASE, f"the coordinator went on before the run's {due}")

    def _read(self) -> None:
        for event in self._client.events():
            self._news.put(event)

    def _log_rest(self) -> None:
        """Faults that came behind the end, or behind the first fault."""
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, Exception) and not isinstance(news, StoppedError):
                log_to_file(f"while the node ended: {news}", news)
