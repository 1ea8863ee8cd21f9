"""What a party with a certificate can pour into a server: connections, headers, and calls that are accepted."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, read_entries, verify
from mple.audit.call_tally import ACCEPTED, REFUSED
from mple.node.coordinator_client import AUDIT_HEAD_KEY
from mple.rpc import ErrorCode, Role, TlsFiles, settings
from mple.rpc.tls import split_address
from mple.v1 import coordinator_pb2
from tests.fuzz.campaign import rss_mib
from tests.support.open_coordinator import DEADLINE_S, OpenCoordinator, join_all
from tests.support.raw_calls import COORDINATOR, Refusals, assert_honest_work_goes_on, call, channel_of
from tests.support.raw_http2 import RawConnection
from tests.support.served import PartyTls
from tests.support.small_run import SITES, site_join, site_party

Coordinator = Callable[..., OpenCoordinator]
NORTH = site_party(SITES[0])
STREAMS, SLACK = 4, 16
MOST = STREAMS + SLACK
"""Connections that the servers here take."""
MIB_EACH = 60
"""What gRPC spends on the headers of one connection at most."""


@pytest.fixture
def north(party_tls: PartyTls) -> TlsFiles:
    return party_tls(Role.SITE, "north")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(address: str, files: TlsFiles, count: int, opened: ExitStack) -> list[RawConnection]:
    """Those of so many connections that the server takes."""
    taken = []
    for _ in range(count):
        with suppress(OSError):
            taken.append(RawConnection(address, files))
            opened.callback(taken[-1].close)
    return taken


def test_connections_beyond_the_servers_number_are_closed_at_once(
    coordinator: Coordinator, north: TlsFiles, opened: ExitStack, tmp_path: Path
) -> None:
    here = coordinator(streams=STREAMS)
    plan = join_all(here)
    held = connected(here.rpc.address, north, MOST + 30, opened)
    assert len(held) <= MOST
    for one in held:
        one.close()
    assert_honest_work_goes_on(here, plan, tmp_path)


@pytest.mark.parametrize("headers", [False, True], ids=["no call", "headers without end"])
def test_a_connection_without_a_call_is_closed(
    coordinator: Coordinator, north: TlsFiles, opened: ExitStack, monkeypatch: pytest.MonkeyPatch, headers: bool
) -> None:
    quick = tuple(
        (name, 500 if name == "grpc.max_connection_idle_ms" else value) for name, value in settings.SERVING_OPTIONS
    )
    assert ("grpc.max_connection_idle_ms", 500) in quick
    monkeypatch.setattr(settings, "SERVING_OPTIONS", quick)
    here = coordinator(streams=STREAMS)
    held = connected(here.rpc.address, north, 5, opened)
    for one in held if headers else ():
        with suppress(OSError):  # the machine may be slower than half a second
            one.begin_headers()
            one.go_on(1)
    assert all(one.closed_within(10.0) for one in held)


def test_a_connection_that_shows_no_certificate_is_closed(
    coordinator: Coordinator, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a word of TLS: it is what a port scanner does, and what 1,100 connections of one machine did."""
    quick = tuple(
        (name, 500 if name == "grpc.server_handshake_timeout_ms" else value) for name, value in settings.SERVING_OPTIONS
    )
    assert ("grpc.server_handshake_timeout_ms", 500) in quick
    monkeypatch.setattr(settings, "SERVING_OPTIONS", quick)
    here = coordinator(streams=STREAMS)
    silent = [opened.enter_context(socket.create_connection(split_address(here.rpc.address))) for _ in range(5)]
    for one in silent:
        one.settimeout(10.0)
        with suppress(ConnectionResetError):
            assert one.recv(1) == b""


def test_headers_without_end_cost_a_bounded_amount_for_each_connection(
    coordinator: Coordinator, north: TlsFiles, opened: ExitStack, tmp_path: Path
) -> None:
    """A byte of them costs 33 and more in gRPC, up to 16 MiB by its reckoning: more bytes cost nothing more, and more
    connections there are not."""
    here = coordinator(streams=STREAMS)
    plan = join_all(here)
    before_mib = rss_mib()
    flooding = connected(here.rpc.address, north, MOST + 30, opened)
    for one in flooding:
        one.begin_headers()
    for _ in range(3):
        for one in flooding:
            with suppress(OSError):
                one.go_on(400_000)
    assert len(flooding) <= MOST
    assert rss_mib() - before_mib < MIB_EACH * MOST
    for one in flooding:
        one.close()
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_a_flood_of_accepted_calls_is_summed(coordinator: Coordinator, audited: Refusals, tmp_path: Path) -> None:
    """Joins again and again, each with another head of a trail: two lines each before, 12.7 MB in 15 s."""
    here = coordinator()
    plan = join_all(here)
    trail = tmp_path / "audit" / FILE_NAME
    before = len(trail.read_bytes())
    stub = here.stub(NORTH)
    for number in range(400):
        head = ((AUDIT_HEAD_KEY, f"{number}:{'0' * 64}"),)
        stub.Join(site_join("north"), timeout=DEADLINE_S, metadata=head)
    lines = [entry for entry in read_entries(trail) if entry.who == NORTH.label]
    assert len(lines) <= 2 * ACCEPTED.lines + 2  # two windows, were this machine so slow
    assert len(trail.read_bytes()) - before < 100_000
    assert verify(trail).sound
    assert_honest_work_goes_on(here, plan, tmp_path)
    assert any(entry.who == "site/south" and entry.what == "layer_begun" for entry in read_entries(trail))


def test_a_flood_of_refused_calls_makes_as_many_lines_in_the_log_as_in_the_trail(
    coordinator: Coordinator, audited: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    here = coordinator()
    join_all(here)
    caplog.set_level(logging.INFO)
    with channel_of(here, NORTH) as channel:
        for _ in range(200):
            assert call(channel, COORDINATOR + "Join", b"\xff").code == ErrorCode.MESSAGE_MALFORMED
    told = [record for record in caplog.records if record.name == "mple.rpc"]
    assert len(told) == len(audited()) <= 5 * REFUSED.lines


def test_calls_that_their_caller_breaks_off_make_no_line_in_the_log(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    here = coordinator()
    join_all(here)
    caplog.set_level(logging.INFO)
    stub = here.stub(NORTH)
    for _ in range(50):
        stream = stub.Watch(coordinator_pb2.WatchRequest(), timeout=DEADLINE_S)
        next(stream)
        stream.cancel()
    assert [record for record in caplog.records if record.name == "mple.rpc" and record.levelno < logging.WARNING] == []
