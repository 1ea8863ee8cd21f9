"""What an idle call costs: no thread, and no waking for what concerns another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc import _common

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from compute_node.service import ComputeService
from mple.meter import Ledger
from mple.plan import RunPlan
from mple.records.cache_records import CacheShape
from mple.rpc import Role, TlsFiles, build_server, channel
from mple.rpc.serving import WORKERS
from mple.rpc.serving_loop import in_loop
from mple.rpc.waking import Wake
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2
from tests.support.open_coordinator import OpenCoordinator, join_all
from tests.support.served import PartyTls
from tests.support.small_plan import CACHE_SECRET, TRAIN, small_plan
from tests.support.small_run import SmallRun, settings_in

WATCHES, FEEDS = 300, 30
WITHIN_S = 60.0


def test_a_caller_that_waits_for_a_message_wakes_once_a_second() -> None:
    """By gRPC's own default ten times: hundreds of sites in a process would wake thousands of times."""
    assert channel.open_channel
    waits_s: list[float] = []
    _common.wait(lambda timeout: waits_s.append(timeout), lambda: len(waits_s) == 3)
    assert waits_s == [1.0, 1.0, 1.0]


class Calls:
    """Open calls of parties, held by coroutines: a caller's end of a call holds no thread either."""

    def __init__(self) -> None:
        self._channels: list[grpc.aio.Channel] = []

    def dial(self, address: str, tls: TlsFiles) -> grpc.aio.Channel:
        """A connection of a party's own."""
        credentials = grpc.ssl_channel_credentials(
            tls.ca.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes()
        )

        async def made() -> grpc.aio.Channel:
            return grpc.aio.secure_channel(address, credentials, (("grpc.use_local_subchannel_pool", 1),))

        self._channels.append(in_loop(made()))
        return self._channels[-1]

    def close(self) -> None:
        """End them all."""

        async def closed() -> None:
            await asyncio.gather(*(channel.close() for channel in self._channels))

        in_loop(closed())


@pytest.fixture
def calls() -> Iterator[Calls]:
    with contextlib.closing(Calls()) as one:
        yield one


def threads() -> int:
    return threading.active_count()


def test_idle_watches_hold_no_thread_and_all_hear_of_an_event(
    tmp_path: Path, party_tls: PartyTls, calls: Calls
) -> None:
    with (
        contextlib.closing(SmallRun(settings_in(tmp_path))) as run,
        contextlib.closing(OpenCoordinator(run, party_tls, tmp_path, streams=WATCHES)) as coordinator,
    ):
        join_all(coordinator)
        north = calls.dial(coordinator.rpc.address, party_tls(Role.SITE, "north"))
        newest, before = run.run.log.last_sequence(), threads()
        method = north.unary_stream("/mple.v1.CoordinatorService/Watch")
        request = coordinator_pb2.WatchRequest(after_sequence=newest).SerializeToString()

        async def opened() -> list[grpc.aio.UnaryStreamCall[bytes, bytes]]:
            watches = [method(request, timeout=WITHIN_S) for _ in range(WATCHES)]
            await asyncio.gather(*(watch.initial_metadata() for watch in watches))
            return watches

        async def heard() -> list[int]:
            events = await asyncio.gather(*(watch.read() for watch in watches))
            return [coordinator_pb2.WatchResponse.FromString(event).sequence for event in events]

        watches = in_loop(opened())
        assert threads() <= before + WORKERS
        run.run.fail("site/north", "its disk is gone")
        sequences = in_loop(heard())
        assert len(sequences) == WATCHES
        assert set(sequences) == {run.run.log.last_sequence()}
        assert threads() <= before + WORKERS


def names() -> list[str]:
    return [f"site-{number:02}" for number in range(FEEDS)]


@pytest.fixture
def plan() -> RunPlan:
    return small_plan(sizes=dict.fromkeys(names(), (4, 1)))


@pytest.fixture
def intake(plan: RunPlan, tmp_path: Path) -> Intake:
    changed = threading.Condition()
    cache = SampleCache(tmp_path / "cache.bin", CacheShape.of(plan), CACHE_SECRET, changed)
    mirroring = Mirroring(tmp_path / "mirroring.json", plan)
    return Intake(plan, cache, LayerBank(plan), changed, in_flight_samples=8, idle_timeout_s=1e6, mirroring=mirroring)


def test_idle_feeds_hold_no_thread_and_what_one_is_asked_wakes_no_other(
    tmp_path: Path, party_tls: PartyTls, calls: Calls, plan: RunPlan, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[Wake] = []
    set_ = Wake.set

    def noted(wake: Wake) -> None:
        woken.append(wake)
        set_(wake)

    monkeypatch.setattr(Wake, "set", noted)
    service, tls = ComputeService("test"), party_tls(Role.COMPUTE, "compute")
    service.open_feed(plan, intake)
    with Ledger(tmp_path / "ledger.sqlite", "compute/compute") as ledger:
        built = build_server("127.0.0.1:0", tls, ledger, streams=FEEDS)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, built.server)
        built.start()
        hello = compute_pb2.FeedRequest(hello=compute_pb2.FeedHello(plan_sha256=plan.sha256())).SerializeToString()
        channels = [calls.dial(built.address, party_tls(Role.SITE, name)) for name in names()]
        before = threads()

        async def opened() -> list[grpc.aio.StreamStreamCall[bytes, bytes]]:
            feeds = [one.stream_stream("/mple.v1.ComputeService/Feed")(timeout=WITHIN_S) for one in channels]
            await asyncio.gather(*(feed.write(hello) for feed in feeds))
            return feeds

        async def asked(*feeds: grpc.aio.StreamStreamCall[bytes, bytes]) -> list[list[int]]:
            messages = await asyncio.gather(*(feed.read() for feed in feeds))
            return [list(compute_pb2.FeedResponse.FromString(message).samples.sample_ids) for message in messages]

        feeds = in_loop(opened())
        intake.want_again(TRAIN, np.arange(4, 4 * FEEDS, 4))
        assert in_loop(asked(*feeds[1:])) == [[0]] * (FEEDS - 1)
        assert threads() <= before + WORKERS
        woken.clear()
        intake.want_again(TRAIN, np.array([3]))
        assert in_loop(asked(feeds[0])) == [[3]]
        assert len(woken) <= 1, "only the first, and that only if it was open"
        intake.close()
        built.stop(0.5)
