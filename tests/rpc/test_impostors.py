"""Who serves in another's place is refused at each connection, not only at the first: whatever certificate it has."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from mple.meter import Ledger
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy
from mple.node.stop import Stop
from mple.pki import Authority, create_authority
from mple.rpc import AwayError, Party, Role, RpcServer, TlsError, TlsFiles, build_server, guarded, open_channel
from mple.rpc import verify_remote as found_at
from mple.rpc.tls import probe_for
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls

COORDINATOR = Party("test", Role.COORDINATOR, "coordinator")
DEADLINE_S = 10.0
LAST = 6
Certificate = Callable[[PartyTls, Authority, Path], TlsFiles]
IMPOSTORS: dict[str, Certificate] = {
    "site": lambda party_tls, _, folder: party_tls(Role.SITE, "south"),
    "compute node": lambda party_tls, _, folder: party_tls(Role.COMPUTE, "compute"),
    "another coordinator": lambda party_tls, _, folder: party_tls(Role.COORDINATOR, "bureau"),
    "site's certificate for every use": lambda _, authority, folder: forge(authority, folder),
    "site that is called as the coordinator": lambda _, authority, folder: forge(
        authority, folder, uris=("mple://test/site/coordinator",)
    ),
    "coordinator at another host": lambda _, authority, folder: forge(
        authority, folder, uris=(COORDINATOR.uri,), hosts=("elsewhere.example",)
    ),
    "coordinator at no host": lambda _, authority, folder: forge(authority, folder, uris=(COORDINATOR.uri,), hosts=()),
    "coordinator of another consortium": lambda _, authority, folder: forge(
        authority, folder, uris=("mple://other/coordinator/coordinator",)
    ),
    "coordinator without the name for TLS": lambda _, authority, folder: forge(
        authority, folder, uris=(COORDINATOR.uri,), server_names=()
    ),
    "wildcard below the name": lambda _, authority, folder: forge(
        authority, folder, uris=(COORDINATOR.uri,), server_names=(f"*.{COORDINATOR.server_name}",)
    ),
    "common name only": lambda _, authority, folder: forge(
        authority, folder, uris=(), hosts=(), common_name="127.0.0.1"
    ),
    "another authority": lambda _, authority, folder: forge(
        create_authority(folder / "authority", "test"), folder, uris=(COORDINATOR.uri,)
    ),
}


class Heard(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Takes every call for a coordinator's, and remembers that there was one; `Watch` gives `at_once` events."""

    def __init__(self, at_once: int = LAST) -> None:
        self.consortium, self.calls, self._at_once = "test", 0, at_once

    @guarded(Role.SITE)
    def Join(self, request: object, context: object, caller: Party) -> coordinator_pb2.JoinResponse:
        self.calls += 1
        return coordinator_pb2.JoinResponse(run_id="run1")

    @guarded(Role.SITE)
    def Watch(
        self, request: coordinator_pb2.WatchRequest, context: grpc.ServicerContext, caller: Party
    ) -> Iterator[coordinator_pb2.WatchResponse]:
        self.calls += 1
        first = request.after_sequence + 1
        for number in range(first, min(first + self._at_once, LAST + 1)):
            phase = coordinator_pb2.PHASE_FINISHED if number == LAST else coordinator_pb2.PHASE_TRAINING
            changed = coordinator_pb2.PhaseChanged(phase=phase)
            yield coordinator_pb2.WatchResponse(sequence=number, phase_changed=changed)
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(opened: ExitStack, tmp_path: Path) -> Callable[..., tuple[RpcServer, Heard]]:
    ledger = opened.enter_context(Ledger(tmp_path / "server.sqlite", COORDINATOR.label))

    def serve(tls: TlsFiles, listen: str = "127.0.0.1:0", at_once: int = LAST) -> tuple[RpcServer, Heard]:
        servicer, rpc = Heard(at_once), build_server(listen, tls, ledger, streams=4)
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, rpc.server)
        rpc.start()
        opened.callback(rpc.stop, 0)
        return rpc, servicer

    return serve


@pytest.mark.parametrize("who", IMPOSTORS)
def test_an_impostor_gets_no_call_on_a_channel_to_another(
    start: Callable[..., tuple[RpcServer, Heard]],
    opened: ExitStack,
    party_tls: PartyTls,
    authority: Authority,
    tmp_path: Path,
    who: str,
) -> None:
    rpc, servicer = start(IMPOSTORS[who](party_tls, authority, tmp_path / "tls"))
    ledger = opened.enter_context(Ledger(tmp_path / "n.sqlite", "site/north"))
    with open_channel(rpc.address, party_tls(Role.SITE, "north"), COORDINATOR, ledger) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
        with pytest.raises(grpc.RpcError):
            next(iter(stub.Watch(coordinator_pb2.WatchRequest(), timeout=DEADLINE_S)))
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    assert servicer.calls == 0
    if who != "another coordinator":  # whose address the configuration may well name
        with pytest.raises((TlsError, AwayError)):
            found_at(rpc.address, party_tls(Role.SITE, "north"), Role.COORDINATOR)


def test_the_run_names_its_compute_node(start: Callable[..., tuple[RpcServer, Heard]], party_tls: PartyTls) -> None:
    """Another one of the consortium, on its address, gets no picture: `Feeding` asks for the plan's by name."""
    rpc, _ = start(party_tls(Role.COMPUTE, "other"))
    north = party_tls(Role.SITE, "north")
    assert found_at(rpc.address, north, Role.COMPUTE, name="other").name == "other"
    with pytest.raises(TlsError, match=r"is compute/other, the run's is compute/compute; check the address"):
        found_at(rpc.address, north, Role.COMPUTE, name="compute")


def test_the_party_itself_is_let_through(
    start: Callable[..., tuple[RpcServer, Heard]], opened: ExitStack, party_tls: PartyTls, tmp_path: Path
) -> None:
    rpc, servicer = start(party_tls(Role.COORDINATOR, "coordinator"))
    ledger = opened.enter_context(Ledger(tmp_path / "n.sqlite", "site/north"))
    assert found_at(rpc.address, party_tls(Role.SITE, "north"), Role.COORDINATOR) == COORDINATOR
    for host in ("127.0.0.1", "localhost"):
        address = rpc.address.replace("127.0.0.1", host)
        with open_channel(address, party_tls(Role.SITE, "north"), COORDINATOR, ledger) as channel:
            stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)
    assert servicer.calls == 2


@pytest.mark.parametrize("who", ["site", "compute node", "another coordinator"])
def test_servers_are_swapped_while_a_site_follows_a_run_and_back(
    start: Callable[..., tuple[RpcServer, Heard]],
    opened: ExitStack,
    party_tls: PartyTls,
    authority: Authority,
    tmp_path: Path,
    who: str,
) -> None:
    north, own = party_tls(Role.SITE, "north"), party_tls(Role.COORDINATOR, "coordinator")
    first, _ = start(own, at_once=2)
    ledger = opened.enter_context(Ledger(tmp_path / "n.sqlite", "site/north"))
    failures = [threading.Semaphore(0)]

    def pause_s(least: float, most: float) -> float:
        failures[0].release()
        return 0.05

    retry = dataclasses.replace(
        RetryPolicy.to(first.address, north, Stop(), 60.0),
        explain=functools.partial(probe_for, COORDINATOR, first.address, north),
        jitter=pause_s,
    )
    channel = opened.enter_context(open_channel(first.address, north, COORDINATOR, ledger))
    events = CoordinatorClient(channel, retry).events()
    got = [next(events).sequence for _ in range(2)]

    first.stop(0)
    impostor, deceived = start(IMPOSTORS[who](party_tls, authority, tmp_path / "tls"), first.address)
    rest: list[int] = []
    following = threading.Thread(target=lambda: rest.extend(event.sequence for event in events))
    following.start()
    for _ in range(9):
        assert failures[0].acquire(timeout=DEADLINE_S)
    impostor.stop(0)
    again, _ = start(own, first.address)
    following.join(DEADLINE_S)

    assert deceived.calls == 0
    assert got + rest == list(range(1, LAST + 1)), "the run goes on once the right one is back"
    again.stop(0)


def test_who_stands_in_another_place_is_named_and_counts_as_away(
    start: Callable[..., tuple[RpcServer, Heard]], party_tls: PartyTls
) -> None:
    north = party_tls(Role.SITE, "north")
    compute, _ = start(party_tls(Role.COMPUTE, "compute"))
    seen = probe_for(COORDINATOR, compute.address, north)
    assert seen.away
    assert "is compute/compute now, not coordinator/coordinator" in str(seen.fault)
    site, _ = start(party_tls(Role.SITE, "south"))
    seen = probe_for(COORDINATOR, site.address, north)
    assert seen.away
    assert "not for serving, such as a site's" in str(seen.fault)
    own, _ = start(party_tls(Role.COORDINATOR, "coordinator"))
    assert probe_for(COORDINATOR, own.address, north).party == COORDINATOR
