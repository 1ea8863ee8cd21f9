"""A small run behind a real server on loopback, and parties that dial it with their certificates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.layers.escrow import EscrowWorker
from coordinator.service import CoordinatorService
from mple.meter import Ledger
from mple.plan import RunPlan
from mple.rpc import ErrorCode, Party, RpcServer, build_server, error_of, open_channel
from mple.rpc.node_service import add_node_service
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.served import PartyTls
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    SITES,
    SmallRun,
    begin_of,
    chunks_of,
    compute_join,
    layer_bytes,
    layer_for,
    site_join,
    site_party,
)

DEADLINE_S = 30.0
Stub = coordinator_pb2_grpc.CoordinatorServiceStub


class OpenCoordinator:
    """Serves a small run as the coordinator's process does, without being one."""

    def __init__(self, run: SmallRun, party_tls: PartyTls, folder: Path, streams: int = 12, **limits: Any) -> None:
        self.run, self.party_tls, self._folder, self._streams = run, party_tls, folder, streams
        self._limits: dict[str, Any] = {"per_caller": streams + 8, **limits}
        self._dialled = contextlib.ExitStack()
        self._ledger = Ledger(folder / "coordinator.sqlite", COORDINATOR.label)
        self._listen = "127.0.0.1:0"
        self.open()

    def open(self) -> None:
        """Serve from now on, at the same address as before."""
        tls = self.party_tls(COORDINATOR.role, COORDINATOR.name)
        self.service = CoordinatorService(self.run.run, self.run.releases)
        self.rpc: RpcServer = build_server(self._listen, tls, self._ledger, streams=self._streams, **self._limits)
        self._listen = self.rpc.address
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self.service, self.rpc.server)
        add_node_service(self.rpc.server, COORDINATOR)
        self.rpc.start()
        self.escrow = EscrowWorker(self.run.run, self.run.releases, tls.key)
        self.escrow.resume()

    def stop(self, grace_s: float = 2.0) -> None:
        """As the coordinator's process ends."""
        self.escrow.stop()
        self.run.run.log.close()
        self.rpc.stop(grace_s)

    def restart(self) -> None:
        """End and begin again at the same address."""
        self.stop()
        self.run.restart()
        self.open()

    def channel(self, party: Party) -> grpc.Channel:
        """A new channel of a party."""
        ledger = self._dialled.enter_context(Ledger(self._folder / f"{party.role}-{party.name}.sqlite", party.label))
        tls = self.party_tls(party.role, party.name)
        return self._dialled.enter_context(open_channel(self.rpc.address, tls, COORDINATOR, ledger))

    def stub(self, party: Party) -> Stub:
        """The calls of a party."""
        return Stub(self.channel(party))

    def close(self) -> None:
        """End everything."""
        self._dialled.close()
        self.stop(0.5)
        self._ledger.close()


@contextlib.contextmanager
def refused_call(code: ErrorCode, text: str | None = None) -> Iterator[None]:
    """The block's call is answered with an error of this code, whose text matches."""
    with pytest.raises(grpc.RpcError, match=text) as fault:
        yield
    answered = error_of(fault.value)
    assert answered is not None, fault.value
    assert answered.code is code


def join_all(coordinator: OpenCoordinator) -> RunPlan:
    """Everybody joins over the wire; the plan that follows."""
    for site in SITES:
        coordinator.stub(site_party(site)).Join(site_join(site), timeout=DEADLINE_S)
    coordinator.stub(COMPUTE).Join(compute_join(), timeout=DEADLINE_S)
    return coordinator.run.run.plan


def report(stub: Stub, **content: object) -> None:
    """One report."""
    stub.Report(coordinator_pb2.ReportRequest(**content), timeout=DEADLINE_S)  # type: ignore[arg-type]


def read(stub: Stub, count: int, after: int = 0) -> list[coordinator_pb2.WatchResponse]:
    """So many events, then the watcher breaks off."""
    stream = stub.Watch(coordinator_pb2.WatchRequest(after_sequence=after), timeout=DEADLINE_S)
    events = [next(stream) for _ in range(count)]
    stream.cancel()
    return events


def honest_layer(plan: RunPlan, site: str, folder: Path, secret: bytes) -> bytes:
    """The layer file that a site uploads; sites may build theirs at the same time."""
    own = folder / site
    own.mkdir(exist_ok=True)
    return layer_bytes(layer_for(plan, site, secret=secret), own)


def upload(stub: Stub, plan: RunPlan, site: str, data: bytes) -> None:
    """A site announces these bytes and uploads what is missing of them."""
    at = stub.BeginLayer(begin_of(plan, site, data), timeout=DEADLINE_S).resume_offset
    assert stub.UploadLayer(chunks_of(data, at), timeout=DEADLINE_S).released
