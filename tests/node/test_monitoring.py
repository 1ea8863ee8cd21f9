"""A node's Prometheus endpoint, asked as Prometheus asks: what it says is the ledger's."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mple import __version__
from mple.audit import open_audit
from mple.meter import Ledger, MessageFacts, MessageKind
from mple.node import monitoring
from mple.node.monitoring import MonitoringError, monitored
from mple.plan import MonitoringSettings
from mple.rpc import Party, Role, TlsFiles
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.ledger_entries import RECEIVED, SENT, entry
from tests.support.served import PartyTls, Served

ME = Party("test", Role.SITE, "north")
HERE = MonitoringSettings(listen="127.0.0.1:0")
CLASS = ("method", "kind", "direction", "peer")
DATA = MessageFacts(MessageKind.DATA, payload_bytes=90, samples=3)


@pytest.fixture
def tls(party_tls: PartyTls) -> TlsFiles:
    return party_tls(Role.SITE, "north")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", ME.label) as ledger:
        yield ledger


@pytest.fixture
def address(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Where the node says that it listens."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text.rpartition("metrics at ")[2].split()[0]


def asked(url: str) -> dict[str, Metric]:
    """The families that an endpoint tells, read by Prometheus' own parser."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """Values by those of some labels."""
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def test_counters_are_the_ledgers(ledger: Ledger, tls: TlsFiles, address: Callable[[], str]) -> None:
    for index, direction in enumerate([SENT, SENT, RECEIVED]):
        ledger.record(entry(direction, "call", index, size=100, facts=DATA, peer="compute/compute"))
    with monitored(HERE, ME, tls, ledger):
        ledger.record(entry(RECEIVED, "other", size=7))
        found = asked(address())
    rows = {tuple(map(str, (of.method, of.kind, of.direction, of.peer))): of for of in ledger.tallies()}
    assert len(rows) == 3
    for name, part in [
        ("mple_messages", "messages"),
        ("mple_message_bytes", "framed_bytes"),
        ("mple_message_payload_bytes", "payload_bytes"),
        ("mple_message_samples", "samples"),
    ]:
        assert found[name].type == "counter"
        said = {labels: getattr(ledger.tallies()[of], part) for labels, of in rows.items()}
        assert values(found[name], *CLASS) == said
    sent = ("Feed", "data", "sent", "compute/compute")
    assert values(found["mple_message_bytes"], *CLASS)[sent] == 210
    assert values(found["mple_message_samples"], *CLASS)[sent] == 6


def test_phase_version_and_certificates(ledger: Ledger, tls: TlsFiles, address: Callable[[], str]) -> None:
    with monitored(HERE, ME, tls, ledger):
        assert set(values(asked(address())["mple_run_phase"], "phase").values()) == {0.0}
        ledger.run = "run7"
        ledger.phase = "training"
        found = asked(address())
    phases = values(found["mple_run_phase"], "phase")
    assert [phase for (phase,), value in phases.items() if value == 1.0] == ["training"]
    assert {"gathering", "setup", "training", "finished", "failed", "predict"} == {phase for (phase,) in phases}
    (about,) = found["mple_node_info"].samples
    assert about.labels == {"node": "site/north", "consortium": "test", "version": __version__, "run": "run7"}
    left = values(found["mple_certificate_remaining_seconds"], "certificate")
    assert set(left) == {("node",), ("authority",)}
    assert all(0 < seconds < 40 * 365 * 86_400 for seconds in left.values())
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6


def test_refused_calls_are_counted_by_code_and_caller(
    served: Served, ledger: Ledger, tls: TlsFiles, address: Callable[[], str], tmp_path: Path
) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.COMPUTE, "compute"))
    open_audit(tmp_path, ME.label)
    with monitored(HERE, ME, tls, ledger):
        assert values(asked(address())["mple_refusals"], "code", "peer") == {}
        with pytest.raises(grpc.RpcError):
            stub.Report(coordinator_pb2.ReportRequest(), timeout=10)
        assert values(asked(address())["mple_refusals"], "code", "peer") == {("ROLE_NOT_ALLOWED", "compute/compute"): 1}


def test_nobody_answers_after_the_end(ledger: Ledger, tls: TlsFiles, address: Callable[[], str]) -> None:
    with monitored(HERE, ME, tls, ledger):
        url = address()
        asked(url)
    with pytest.raises(OSError, match="refused"):
        asked(url)


def test_a_taken_port_is_named_with_the_way_out(ledger: Ledger, tls: TlsFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with (
            pytest.raises(MonitoringError, match=rf"monitoring\.listen = {taken}.*another program has the port"),
            monitored(MonitoringSettings(listen=taken), ME, tls, ledger),
        ):
            pass


@pytest.mark.parametrize("listen", ["9464", "127.0.0.1", "127.0.0.1:none", "127.0.0.1:99999", "203.0.113.1:9464"])
def test_an_address_that_can_not_be_is_refused(ledger: Ledger, tls: TlsFiles, listen: str) -> None:
    with (
        pytest.raises(MonitoringError, match=rf"monitoring\.listen.*{listen}"),
        monitored(MonitoringSettings(listen=listen), ME, tls, ledger),
    ):
        pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6(ledger: Ledger, tls: TlsFiles, address: Callable[[], str]) -> None:
    with monitored(MonitoringSettings(listen="[::1]:0"), ME, tls, ledger):
        assert address().startswith("http://[::1]:")
        assert "mple_messages" in asked(address())


def test_a_client_that_says_nothing_is_hung_up_on(
    ledger: Ledger, tls: TlsFiles, address: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "_REQUEST_S", 0.1)
    with monitored(HERE, ME, tls, ledger):
        host, _, port = address().removeprefix("http://").removesuffix("/metrics").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as silent:
            assert silent.recv(1) == b""


@pytest.mark.parametrize(("listen", "warned"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_an_address_beyond_loopback_is_warned_of(
    ledger: Ledger, tls: TlsFiles, caplog: pytest.LogCaptureFixture, listen: str, warned: bool
) -> None:
    with monitored(MonitoringSettings(listen=listen), ME, tls, ledger):
        assert ("whoever reaches this address can read" in caplog.text) is warned
