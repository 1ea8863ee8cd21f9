"""Two ends of a link over a real server and a real channel, in one process, with a thread for the server's half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from comparison.two_party.contents import measure
from comparison.two_party.link import Link
from comparison.two_party.service import TwoPartyService, dial
from comparison.v1 import two_party_pb2_grpc
from mple.meter import Ledger
from mple.rpc import MpleError, Party, Role, RpcServer, build_server, open_channel
from tests.support.served import PartyTls


class Pair:
    """A client's link and, once the client has sent something, the server's."""

    def __init__(self, folder: Path, party_tls: PartyTls, idle_s: float = 20.0) -> None:
        tls = party_tls(Role.COMPUTE, "server")
        ledgers = {"compute/server": folder / "server.sqlite", "site/client": folder / "client.sqlite"}
        self._ledgers = [Ledger(path, node) for node, path in ledgers.items()]
        self._rpc: RpcServer = build_server(
            "127.0.0.1:0", tls, self._ledgers[0], streams=2, idle_s=idle_s, measure=measure
        )
        self.service = TwoPartyService("test")
        two_party_pb2_grpc.add_TwoPartyServiceServicer_to_server(self.service, self._rpc.server)
        self._rpc.start()
        remote = Party("test", Role.COMPUTE, "server")
        client_tls = party_tls(Role.SITE, "client")
        self._channel = open_channel(self._rpc.address, client_tls, remote, self._ledgers[1], measure=measure)
        self.client = dial(self._channel, idle_s)
        self.server = self.service.accept(10.0)
        self._thread: threading.Thread | None = None
        self.fault: Exception | None = None

    def dial_again(self) -> Link:
        """Another call of the same client."""
        return dial(self._channel, 10.0)

    def serve(self, half: Callable[[Link], None]) -> None:
        """Run the server's half in a thread; what it raises ends the call as the server's process would."""

        def run() -> None:
            try:
                half(self.server)
                self.server.finish()
            except MpleError as fault:
                self.fault = fault
                self.service.fail(self.server, fault)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> None:
        """Wait until the server's half has ended."""
        assert self._thread is not None
        self._thread.join(20.0)
        assert not self._thread.is_alive()

    def close(self) -> None:
        """End the call and the server; a second call does nothing."""
        self.client.break_off()
        self._channel.close()
        self._rpc.stop(0.5)
        for ledger in self._ledgers:
            ledger.close()
