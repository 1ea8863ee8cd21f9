"""A node's Prometheus endpoint: figures over plain HTTP, to whoever can reach the address. Off by default.

Nothing is counted for it: when somebody asks, the figures are read from where they are kept anyway, from the ledger
first of all. There are sums and states among them, no secret, no picture, nothing of a single sample.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from mple.meter import Ledger
from mple.node.logs import log
from mple.node.metrics import NodeMetrics
from mple.plan import MonitoringSettings
from mple.rpc import Party, TlsFiles
from mple.rpc.tls import split_address

_LOGGER = logging.getLogger("mple.node")
_REQUEST_S = 10.0
"""A client that says nothing for so long is hung up on."""
_LOOPBACK = ("127.", "::1", "localhost")


class MonitoringError(ValueError):
    """The endpoint can't be opened; the text names the address and the way out."""


@contextmanager
def monitored(settings: MonitoringSettings, me: Party, tls: TlsFiles, ledger: Ledger) -> Iterator[CollectorRegistry]:
    """Serve a node's metrics while the block runs, if its settings say so.

    Args:
        settings: Where to listen.
        me: The node.
        tls: Its certificate.
        ledger: Its ledgers.

    Returns:
        Takes further collectors, whether or not anything is served.

    Raises:
        MonitoringError: The address is malformed, taken, or not this machine's.
    """
    registry = CollectorRegistry()
    if not settings.listen:
        yield registry
        return
    ProcessCollector(registry=registry)
    registry.register(NodeMetrics(me, tls, ledger))
    server = _server(settings.listen, registry)
    threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
    host, port = split_address(settings.listen)[0], server.server_port
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    log(_LOGGER, logging.INFO, "monitoring", f"metrics at http://{shown}/metrics", address=shown)
    if not host.startswith(_LOOPBACK):
        text = f"monitoring.listen = {settings.listen}: whoever reaches this address can read the metrics"
        log(_LOGGER, logging.WARNING, "monitoring_open", text)
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer's own asks the name service for this machine's name, which may take its time.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Request(WSGIRequestHandler):
    timeout = _REQUEST_S

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not news."""


def _server(listen: str, registry: CollectorRegistry) -> WSGIServer:
    try:
        host, port = split_address(listen)
    except ValueError as fault:
        raise MonitoringError(f"monitoring.listen: {fault}") from None
    server = _ServerV6 if ":" in host else _Server
    try:
        return make_server(host, port, make_wsgi_app(registry), server_class=server, handler_class=_Request)
    except OSError as fault:
        taken = fault.errno == errno.EADDRINUSE
        why = "another program has the port; name another, or 0 for a free one" if taken else str(fault.strerror)
        raise MonitoringError(f"monitoring.listen = {listen}: can't listen there: {why}") from None
