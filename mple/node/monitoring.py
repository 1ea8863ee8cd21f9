"""A node's Prometheus endpoint: figures over plain HTTP, to whoever can reach the address. Off by default.

Nothing is counted for it: when somebody asks, the figures are read from where they are kept anyway, from the ledger
first of all. There are sums and states among them, no secret, no picture, nothing of a single sample.
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from mple import __version__
from mple.audit import refusals
from mple.meter import Ledger
from mple.node.certificate_age import seconds_left
from mple.node.logs import log, warn
from mple.plan import MonitoringSettings
from mple.rpc import Party, TlsFiles
from mple.rpc.tls import split_address
from mple.v1 import coordinator_pb2

_LOGGER = logging.getLogger("mple.node")
_REQUEST_S = 10.0
"""A client that says nothing for so long is hung up on."""
_LOOPBACK = ("127.", "::1", "localhost")
_CLASS = ("method", "kind", "direction", "peer")
_PHASES = (*(name.removeprefix("PHASE_").lower() for name in coordinator_pb2.Phase.keys()[1:]), "predict")
"""Those of a run, and that in which a node answers predictions after it."""


class MonitoringError(ValueError):
    """The endpoint can't be opened; the text names the address and the way out."""


@contextmanager
def monitored(settings: MonitoringSettings, me: Party, tls: TlsFiles, ledger: Ledger) -> Iterator[CollectorRegistry]:
    """Serve a node's metrics while the block runs.

    Args:
        settings: Where to listen; they name an address.
        me: The node.
        tls: Its certificate.
        ledger: Its ledger.

    Returns:
        Takes further collectors.

    Raises MonitoringError: the address is malformed, taken, or not this machine's.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_NodeMetrics(me, tls, ledger))
    host, server = _served(settings.listen, registry)
    shown = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
    log("monitoring", f"metrics at http://{shown}/metrics", address=shown)
    if not host.startswith(_LOOPBACK):
        text = f"monitoring.listen = {settings.listen}: whoever reaches this address can read the metrics"
        warn("monitoring_open", text)
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def _served(listen: str, registry: CollectorRegistry) -> tuple[str, WSGIServer]:
    try:
        host, port = split_address(listen)
    except ValueError as fault:
        raise MonitoringError(f"monitoring.listen: {fault}") from None
    try:
        server, _thread = start_http_server(port, host, registry)
    except OSError as fault:
        taken = fault.errno == errno.EADDRINUSE
        why = "another program has the port; name another, or 0 for a free one" if taken else str(fault.strerror)
        raise MonitoringError(f"monitoring.listen = {listen}: can't listen there: {why}") from None
    cast("type[WSGIRequestHandler]", server.RequestHandlerClass).timeout = _REQUEST_S
    return host, server


class _NodeMetrics(Collector):
    """Reads a node's ledger and certificate when it is asked."""

    def __init__(self, me: Party, tls: TlsFiles, ledger: Ledger) -> None:
        self._me, self._tls, self._ledger = me, tls, ledger

    def collect(self) -> Iterator[Metric]:
        """All families, with the values of now."""
        about = {"node": self._me.label, "consortium": self._me.consortium, "version": __version__}
        yield InfoMetricFamily("mple_node", "Who this is.", {**about, "run": self._ledger.run})
        yield from self._messages()
        phase = GaugeMetricFamily("mple_run_phase", "1 for the phase that the run is in.", labels=["phase"])
        for name in _PHASES:
            phase.add_metric([name], float(self._ledger.phase == name))
        yield phase
        yield self._refusals()
        yield self._certificates()

    def _messages(self) -> Iterator[Metric]:
        messages = CounterMetricFamily("mple_messages", "Messages in the node's ledger.", labels=_CLASS)
        framed = CounterMetricFamily(
            "mple_message_bytes", "Bytes of these messages with gRPC's prefixes, without HTTP/2 and TLS.", labels=_CLASS
        )
        payload = CounterMetricFamily(
            "mple_message_payload_bytes", "Codes, layers, or logits among these bytes.", labels=_CLASS
        )
        samples = CounterMetricFamily("mple_message_samples", "Samples that these messages were of.", labels=_CLASS)
        for of, tally in self._ledger.tallies().items():
            labels = [of.method, of.kind, of.direction.value, of.peer]
            messages.add_metric(labels, tally.messages)
            framed.add_metric(labels, tally.framed_bytes)
            payload.add_metric(labels, tally.payload_bytes)
            samples.add_metric(labels, tally.samples)
        return iter((messages, framed, payload, samples))

    def _refusals(self) -> Metric:
        family = CounterMetricFamily(
            "mple_refusals", "Calls that this process has refused, by error code and caller.", labels=["code", "peer"]
        )
        for (peer, code), count in refusals().items():
            family.add_metric([code, peer], count)
        return family

    def _certificates(self) -> Metric:
        family = GaugeMetricFamily(
            "mple_certificate_remaining_seconds", "Time until a certificate ends.", labels=["certificate"]
        )
        now = datetime.now(UTC)
        for name, path in (("node", self._tls.certificate), ("authority", self._tls.ca)):
            try:
                family.add_metric([name], seconds_left(path, now))
            except (OSError, ValueError) as fault:  # a file that is just being replaced: the others are still told
                _LOGGER.warning("%s can't be read: %s", path, fault)
        return family
