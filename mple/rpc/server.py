"""The one factory of servers: mutual TLS required, bounded calls, health service, metering, no shared port."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from mple.disk.scarcity import room_for_peers
from mple.disk.stamps import stamp_of
from mple.disk.storage_faults import note_storage_fault
from mple.meter import Ledger, Measure, measure
from mple.per_node import start_thread
from mple.rpc.admission import CALLS_PER_CALLER, Admission
from mple.rpc.call import MESSAGE_IDLE_S
from mple.rpc.health import Health
from mple.rpc.identity import Role
from mple.rpc.revoked import revoked_beside
from mple.rpc.serving import Serving
from mple.rpc.serving_loop import in_loop
from mple.rpc.settings import serving_options
from mple.rpc.tls import split_address
from mple.rpc.tls_files import TlsFiles

_UNARY_SLACK = 8
_CONNECTION_SLACK = 16
"""Connections beyond the streams: what a cut link or a renewed certificate leaves open for a while, and who asks."""
_LOOK_EVERY_S = 1.0
_CUT_S = 2.0
"""How long a server that stops waits for calls that it has cut."""
_LOGGER = logging.getLogger("mple.rpc")


class PortError(ValueError):
    """The address can't be listened on."""


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A built server; NOT_SERVING until it is started and again while it stops."""

    server: grpc.aio.Server
    address: str
    """Where it listens, with the real port where 0 was asked for."""
    _health: Health
    _serving: Serving
    _admission: Admission
    _stopping: threading.Event

    def start(self) -> None:
        """Take calls from now on."""
        in_loop(self.server.start())
        self._health.serve()
        start_thread("revoked", self._watch_revoked)

    def stop(self, grace_s: float) -> None:
        """Take no new calls, let open ones end for `grace_s` seconds, then cut them."""
        self._stopping.set()
        self._health.end()
        in_loop(self._stop(grace_s))
        self._serving.close()

    async def _stop(self, grace_s: float) -> None:
        await self.server.stop(grace_s)
        await self._serving.ended(_CUT_S)

    def _watch_revoked(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                self._admission.cut_revoked()
            except Exception as fault:  # nobody would look any more
                note_storage_fault(fault)
                _LOGGER.error("can't look for revoked callers: %r", fault)


def build_server(
    listen: str,
    tls: TlsFiles,
    ledger: Ledger,
    *,
    streams: int,
    per_caller: int = CALLS_PER_CALLER,
    processes: Mapping[Role, int] = MappingProxyType({}),
    idle_s: float = MESSAGE_IDLE_S,
    measure: Measure = measure,
) -> RpcServer:
    """A server that knows its callers by their certificates; add services, then `start`.

    What an open call costs, `mple.rpc.serving` says; calls beyond `streams` and some slack are refused with
    RESOURCE_EXHAUSTED instead of waiting silently. Connections beyond `streams` and more slack, or beyond what leaves
    this process enough descriptors, are closed at once, those without a call after a minute. Renewed certificate files
    are used for new connections without a restart, and a renewed list of revoked certificates for new calls at once and
    for open ones within a second.

    The port 0 of `listen`, "host:port", takes a free one. The files are already checked. `streams` of all callers and
    `per_caller` calls of each process of one may be open at once; `processes` says of how many processes of a role one
    certificate is, where it is not one. `idle_s` is the longest wait for a message that is due, in seconds. `measure`
    says what messages are for the ledger; the default knows the product's.

    Raises PortError: the port is taken or the address is not this machine's.
    """
    calls = streams + _UNARY_SLACK
    admission = Admission(per_caller=per_caller, processes=processes, revoked=revoked_beside(tls.ca))
    serving = Serving(admission, ledger, measure, streams=calls, idle_s=idle_s)
    options = serving_options(min(streams + _CONNECTION_SLACK, room_for_peers()), per_caller)

    async def made() -> grpc.aio.Server:
        return grpc.aio.server(interceptors=[serving], options=options, maximum_concurrent_rpcs=calls)

    server = in_loop(made())
    host, _ = split_address(listen)
    try:
        bound = server.add_secure_port(listen, _reloading(tls))
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise PortError(f"can't listen on {listen}: another program has the port, or it is not this machine's address")
    status = Health()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    shown = f"[{host}]" if ":" in host else host
    return RpcServer(server, f"{shown}:{bound}", status, serving, admission, threading.Event())


def _reloading(tls: TlsFiles) -> grpc.ServerCredentials:
    def stamp() -> tuple[tuple[int, int, int] | None, ...]:
        return stamp_of(tls.ca, tls.certificate, tls.key)

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())], root_certificates=tls.ca.read_bytes()
        )

    seen = [stamp()]

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        now = stamp()
        if now == seen[0]:
            return None
        fresh = configuration()
        seen[0] = now  # not before: files that could not be read now are looked at again
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        renewed,  # type: ignore[arg-type]  # the stubs don't know that None says "as before"
        require_client_authentication=True,
    )
