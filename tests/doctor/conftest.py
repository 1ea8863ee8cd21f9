"""A real node to look at: a server with the probe service and whatever certificate a test gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mple.meter import Ledger
from mple.rpc import Party, Role, RpcServer, TlsFiles, build_server
from mple.rpc.node_service import add_node_service
from tests.support.served import PartyTls

Node = Callable[..., RpcServer]
COORDINATOR = Party("test", Role.COORDINATOR, "coordinator")


@pytest.fixture
def node(party_tls: PartyTls, tmp_path: Path) -> Iterator[Node]:
    """Starts servers that answer probes as `coordinator/coordinator`, by their TLS files, and stops them."""
    running: list[tuple[RpcServer, Ledger]] = []

    def start(tls: TlsFiles | None = None, me: Party = COORDINATOR) -> RpcServer:
        ledger = Ledger(tmp_path / f"node-{len(running)}.sqlite", me.label)
        built = build_server("127.0.0.1:0", tls or party_tls(Role.COORDINATOR, "coordinator"), ledger, streams=2)
        add_node_service(built.server, me)
        built.start()
        running.append((built, ledger))
        return built

    yield start
    for built, ledger in running:
        built.stop(0.5)
        ledger.close()
