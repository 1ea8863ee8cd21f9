"""The probe that every listening node answers: who, when, and bytes each way, within bounds and without ledgers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from mple import __version__
from mple.pki import Authority
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, Party, Role, TlsFiles, error_of
from mple.rpc.node_service import MOST_PADDING_BYTES, add_node_service
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc, node_pb2, node_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls, Served

Stub = node_pb2_grpc.NodeServiceStub


@pytest.fixture
def probed(serving: Callable[..., Served]) -> Served:
    one = serving()
    add_node_service(one.rpc.server, Party("test", Role.COORDINATOR, "coordinator"))
    return one


def unmetered(address: str, files: TlsFiles) -> grpc.Channel:
    """A channel without ledgers, as the diagnosis has."""
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    return grpc.secure_channel(address, credentials)


@pytest.mark.parametrize("role", list(Role))
def test_any_party_learns_who_answers_and_when(probed: Served, role: Role) -> None:
    before_ms = time.time() * 1000 - 1
    said = Stub(probed.dial(role)).Probe(node_pb2.ProbeRequest(), timeout=10)
    assert (said.label, said.protocol_version, said.program_version) == (
        "coordinator/coordinator",
        PROTOCOL_VERSION,
        __version__,
    )
    assert before_ms <= said.time_unix_ms <= time.time() * 1000
    assert (said.padding_bytes, said.padding) == (0, b"")


def test_padding_is_counted_up_and_made_down(probed: Served) -> None:
    stub = Stub(probed.dial())
    up = stub.Probe(node_pb2.ProbeRequest(padding=b"x" * MOST_PADDING_BYTES), timeout=10)
    assert (up.padding_bytes, len(up.padding)) == (MOST_PADDING_BYTES, 0), "nothing is echoed"
    down = stub.Probe(node_pb2.ProbeRequest(want_bytes=MOST_PADDING_BYTES), timeout=10)
    assert (down.padding_bytes, len(down.padding)) == (0, MOST_PADDING_BYTES)


@pytest.mark.parametrize(
    "request_",
    [
        node_pb2.ProbeRequest(padding=bytes(MOST_PADDING_BYTES + 1)),
        node_pb2.ProbeRequest(want_bytes=MOST_PADDING_BYTES + 1),
        node_pb2.ProbeRequest(want_bytes=2**32 - 1),
    ],
)
def test_more_than_a_mib_is_refused(probed: Served, request_: node_pb2.ProbeRequest) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        Stub(probed.dial()).Probe(request_, timeout=10)
    error = error_of(caught.value)
    assert error is not None
    assert error.code is ErrorCode.MESSAGE_MALFORMED
    assert "allowed are 1048576" in error.detail


def test_a_party_of_another_consortium_learns_nothing(probed: Served, authority: Authority, tmp_path: Path) -> None:
    files = forge(authority, tmp_path / "other", uris=("mple://other/site/north",))
    with unmetered(probed.address, files) as channel, pytest.raises(grpc.RpcError) as caught:
        Stub(channel).Probe(node_pb2.ProbeRequest(), timeout=10)
    error = error_of(caught.value)
    assert error is not None
    assert error.code is ErrorCode.FOREIGN_CONSORTIUM


def test_probes_by_who_keeps_no_ledger_do_not_disturb_the_ledgers(probed: Served, party_tls: PartyTls) -> None:
    """The node enters what it serves; the other end's ledgers are not there, and are not missed."""
    files = party_tls(Role.SITE, "south")
    with unmetered(probed.address, files) as channel:
        Stub(channel).Probe(node_pb2.ProbeRequest(want_bytes=100), timeout=10)
    join = coordinator_pb2.JoinRequest(protocol_version=1)
    coordinator_pb2_grpc.CoordinatorServiceStub(probed.dial()).Join(join, timeout=10)
    totals = probed.ledger.totals()
    assert (totals.messages_received, totals.messages_sent) == (2, 2)
    found = probed.balance()
    assert (found.matched, found.whole, found.offenders) == (2, True, ())
