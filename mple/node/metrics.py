"""What every node tells Prometheus: messages as its ledger counts them, phase, refusals, certificates, version."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from mple import __version__
from mple.audit import refusals
from mple.meter import Ledger
from mple.node.certificate_age import seconds_left
from mple.rpc import Party, TlsFiles
from mple.v1 import coordinator_pb2

_LOGGER = logging.getLogger("mple.node")
_CLASS = ("method", "kind", "direction", "peer")
_PHASES = (
    *(name.removeprefix("PHASE_").lower() for name in coordinator_pb2.Phase.keys()[1:]),
    "predict",
)
"""Those of a run, and that in which a node answers predictions after it."""


class NodeMetrics(Collector):
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
