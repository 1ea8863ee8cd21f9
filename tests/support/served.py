"""A small server for tests: the real services' stubs before servicers whose answers are known in advance.

`EchoCoordinator` has a call of each kind but bidirectional, `EchoCompute` has that one. Every end keeps a ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc

from mple.meter import Ledger
from mple.meter.reconciliation import Balance, balance, merge
from mple.rpc import Party, Role, RpcServer, TlsFiles, build_server, guarded, open_channel
from mple.rpc.metering import MeteredChannel
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc

PartyTls = Callable[[Role, str], TlsFiles]


class Streams:
    """Counts the served streams of one kind that are open."""

    def __init__(self) -> None:
        self._open = 0
        self._changed = threading.Condition()

    def enter(self) -> None:
        """One has opened."""
        self._count(1)

    def leave(self) -> None:
        """One has ended."""
        self._count(-1)

    def become(self, count: int, timeout_s: float = 10.0) -> bool:
        """Whether so many are open within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == count, timeout_s)

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()


class EchoCoordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Join: the caller's label. Watch: as many events as asked. UploadLayer: whether bytes came. Report: a fault."""

    def __init__(self, consortium: str) -> None:
        self.consortium = consortium
        self.fault: Exception | None = None
        """What Report, and Watch after its events, end with."""
        self.uploaded_bytes = 0
        self.reports: list[coordinator_pb2.ReportRequest] = []
        self.watches = Streams()
        self.uploads = Streams()

    @guarded(Role.SITE, Role.COMPUTE)
    def Join(
        self, request: coordinator_pb2.JoinRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.JoinResponse:
        return coordinator_pb2.JoinResponse(run_id=caller.label, last_sequence=request.protocol_version)

    @guarded(Role.SITE)
    def Watch(
        self, request: coordinator_pb2.WatchRequest, context: grpc.ServicerContext, caller: Party
    ) -> Iterator[coordinator_pb2.WatchResponse]:
        self.watches.enter()
        try:
            for number in range(request.after_sequence):
                yield coordinator_pb2.WatchResponse(sequence=number)
            if self.fault is not None:
                raise self.fault
        finally:
            self.watches.leave()

    @guarded(Role.SITE)
    def UploadLayer(
        self, request: Iterator[coordinator_pb2.UploadLayerRequest], context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.UploadLayerResponse:
        self.uploads.enter()
        try:
            self.uploaded_bytes = sum(len(chunk.data) for chunk in request)
            return coordinator_pb2.UploadLayerResponse(released=True)
        finally:
            self.uploads.leave()

    @guarded(Role.SITE)
    def Report(
        self, request: coordinator_pb2.ReportRequest, context: grpc.ServicerContext, caller: Party
    ) -> coordinator_pb2.ReportResponse:
        if self.fault is not None:
            raise self.fault
        self.reports.append(request)
        return coordinator_pb2.ReportResponse()


class EchoCompute(compute_pb2_grpc.ComputeServiceServicer):
    """Feed: a request for as many samples as each batch had, until the site ends the stream."""

    def __init__(self, consortium: str) -> None:
        self.consortium = consortium
        self.feeds = Streams()

    @guarded(Role.SITE)
    def Feed(
        self, request: Iterator[compute_pb2.FeedRequest], context: grpc.ServicerContext, caller: Party
    ) -> Iterator[compute_pb2.FeedResponse]:
        self.feeds.enter()
        try:
            for message in request:
                ids = range(message.batch.samples)
                asked = compute_pb2.SampleRequest(request_id=message.batch.request_id, sample_ids=ids)
                yield compute_pb2.FeedResponse(samples=asked)
        finally:
            self.feeds.leave()


class Served:
    """A started server with both services, and whoever dials it."""

    def __init__(self, rpc: RpcServer, ledger: Ledger, folder: Path, party_tls: PartyTls, consortium: str) -> None:
        self.rpc, self.ledger, self.folder, self._party_tls = rpc, ledger, folder, party_tls
        self.coordinator, self.compute = EchoCoordinator(consortium), EchoCompute(consortium)
        self._dialled: dict[str, tuple[MeteredChannel, Ledger]] = {}
        self._files: dict[str, TlsFiles] = {}
        self._closed = False
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self.coordinator, rpc.server)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(self.compute, rpc.server)

    @property
    def address(self) -> str:
        """Where the server listens."""
        return self.rpc.address

    def dial(self, role: Role = Role.SITE, name: str = "north", address: str | None = None) -> MeteredChannel:
        """A channel of a party, its ledgers beside the server's; one per party."""
        ledger = Ledger(self.folder / f"{role}-{name}.sqlite", f"{role}/{name}")
        remote = Party(self.coordinator.consortium, Role.COORDINATOR, "coordinator")
        files = self._files.get(name) or self._party_tls(role, name)
        channel = open_channel(address or self.address, files, remote, ledger)
        self._dialled[f"{role}-{name}"] = (channel, ledger)
        return channel

    def use_files(self, name: str, files: TlsFiles) -> None:
        """Have a party dial with files of the test's own."""
        self._files[name] = files

    def ledgers_of(self, party: str) -> Ledger:
        """The ledger of a party that dialled, by role-name."""
        return self._dialled[party][1]

    def close(self) -> None:
        """Close channels, then the server, then all ledgers; a second call does nothing.

        Raises:
            OSError: A ledger could not be written; all are closed.
        """
        if self._closed:
            return
        self._closed = True
        for channel, _ in self._dialled.values():
            channel.close()
        self.rpc.stop(0.5)
        with ExitStack() as ledgers:
            for ledger in (*(ledger for _, ledger in self._dialled.values()), self.ledger):
                ledgers.callback(ledger.close)

    def merged(self) -> Path:
        """Close everything and merge the ledgers, once."""
        self.close()
        out = self.folder / "merged.sqlite"
        if not out.exists():
            merge([self.folder / "server.sqlite", *(self.folder / f"{name}.sqlite" for name in self._dialled)], out)
        return out

    def balance(self) -> Balance:
        """Close everything and balance the ledgers."""
        return balance(self.merged())


def serve(listen: str, tls: TlsFiles, folder: Path, party_tls: PartyTls, *, streams: int) -> Served:
    """A started server of consortium `test`, its ledgers in `folder`."""
    ledger = Ledger(folder / "server.sqlite", "coordinator/coordinator")
    one = Served(
        build_server(listen, tls, ledger, streams=streams, per_caller=streams + 8), ledger, folder, party_tls, "test"
    )
    one.rpc.start()
    return one
