"""Uploads that break off and watchers that come and go, over loopback with mutual TLS."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import pytest

from mple.rpc import ErrorCode
from mple.v1 import coordinator_pb2
from tests.support.open_coordinator import (
    DEADLINE_S,
    OpenCoordinator,
    Stub,
    join_all,
    read,
    refused_call,
    upload,
)
from tests.support.small_run import (
    COMPUTE,
    SITES,
    begin_of,
    chunks_of,
    sealed_for,
    site_join,
    site_party,
    told,
)

NORTH, SOUTH, WEST = map(site_party, SITES)
EVERYTHING = coordinator_pb2.WatchRequest()
FAILURE = coordinator_pb2.ReportRequest(failure=coordinator_pb2.Failure(text="fire"))
Opens = Callable[..., OpenCoordinator]


class Feeder:
    """An upload whose messages come one at a time, when the test says so."""

    def __init__(self, stub: Stub) -> None:
        self._messages: queue.Queue[coordinator_pb2.UploadLayerRequest | None] = queue.Queue()
        self.answer = stub.UploadLayer.future(iter(self._messages.get, None), timeout=DEADLINE_S)

    def send(self, *messages: coordinator_pb2.UploadLayerRequest | None) -> None:
        """None ends the stream."""
        for message in messages:
            self._messages.put(message)


def await_bytes(coordinator: OpenCoordinator, data: bytes, count: int) -> None:
    """Until so many bytes of a layer are here."""
    part = coordinator.run.run.layers.path(hashlib.sha256(data).digest()).with_suffix(".part")
    for _ in range(2000):
        if part.exists() and part.stat().st_size == count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{count} bytes never came")


@pytest.mark.parametrize("how", ["cancelled", "half-closed", "channel closed"])
def test_site_that_disappears_goes_on_where_it_was(open_coordinator: Opens, how: str) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    data = coordinator.run.layer("north")
    channel = coordinator.channel(NORTH)
    stub = Stub(channel)
    stub.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    feeder = Feeder(stub)
    messages = list(chunks_of(data, size=50_000))
    feeder.send(*messages[:2])
    await_bytes(coordinator, data, 100_000)
    if how == "cancelled":
        feeder.answer.cancel()
    elif how == "half-closed":
        feeder.send(None)
        with refused_call(ErrorCode.STREAM_TRUNCATED, "begin again to go on"):
            feeder.answer.result()
    else:
        channel.close()
    again = coordinator.stub(NORTH)
    begun = again.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    assert begun.resume_offset == 100_000
    upload(again, plan, "north", data)
    assert coordinator.run.story()[-1] == "layer north"
    feeder.send(None)


def test_silent_upload_gives_way_to_the_sites_next(open_coordinator: Opens) -> None:
    """A stream whose link died unnoticed holds a thread, not the layer."""
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    data = coordinator.run.layer("north")
    stub = coordinator.stub(NORTH)
    stub.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    feeder = Feeder(stub)
    messages = list(chunks_of(data, size=50_000))
    feeder.send(messages[0])
    await_bytes(coordinator, data, 50_000)
    upload(coordinator.stub(NORTH), plan, "north", data)
    feeder.send(messages[1], None)
    with refused_call(ErrorCode.FILE_OFFSET, "another upload"):
        feeder.answer.result()
    assert coordinator.run.story()[-1] == "layer north"


def test_watchers_beyond_the_allowed_streams_are_refused_until_others_leave(open_coordinator: Opens) -> None:
    coordinator = open_coordinator(streams=2)  # and 8 calls of slack
    stub = coordinator.stub(NORTH)
    stub.Join(site_join("north"), timeout=DEADLINE_S)
    watching = [stub.Watch(EVERYTHING, timeout=DEADLINE_S) for _ in range(10)]
    assert {told(next(stream)) for stream in watching} == {"joined site/north"}
    with pytest.raises(grpc.RpcError) as full:
        next(stub.Watch(EVERYTHING, timeout=DEADLINE_S))
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for stream in watching[:5]:
        stream.cancel()
    coordinator.stub(SOUTH).Report(FAILURE, timeout=DEADLINE_S, wait_for_ready=True)
    assert {told(next(stream)) for stream in watching[5:]} == {"failed"}


def rpc_threads() -> int:
    return sum(thread.name.startswith("rpc") and thread.is_alive() for thread in threading.enumerate())


def test_watchers_that_leave_give_their_threads_back(open_coordinator: Opens) -> None:
    coordinator = open_coordinator(streams=2)
    stub = coordinator.stub(NORTH)
    stub.Join(site_join("north"), timeout=DEADLINE_S)
    for _ in range(30):
        assert [told(event) for event in retried(lambda: read(stub, 1))] == ["joined site/north"]


def retried(call: Callable[[], list[coordinator_pb2.WatchResponse]]) -> list[coordinator_pb2.WatchResponse]:
    """A refusal for lack of threads is answered by waiting, as every party does."""
    for _ in range(500):
        try:
            return call()
        except grpc.RpcError as fault:
            if fault.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            threading.Event().wait(0.01)
    raise AssertionError("no thread came free")


def test_watchers_end_with_the_server(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    watching = [
        coordinator.stub(party).Watch(EVERYTHING, timeout=DEADLINE_S) for party in (NORTH, SOUTH, WEST, COMPUTE)
    ]
    for stream in watching:
        while told(next(stream)) != "setup":
            pass
    data = coordinator.run.layer("north")
    stub = coordinator.stub(NORTH)
    stub.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    feeder = Feeder(stub)
    feeder.send(next(chunks_of(data, size=50_000)))
    await_bytes(coordinator, data, 50_000)
    with ThreadPoolExecutor(1) as threads:
        stopping: Future[None] = threads.submit(coordinator.stop, 0.2)
        for stream in watching:
            assert list(unbroken(stream)) == []
        stopping.result(20)
    with pytest.raises(grpc.RpcError):
        feeder.answer.result()
    feeder.send(None)
    for _ in range(1000):
        if rpc_threads() == 0:
            break
        threading.Event().wait(0.01)
    assert rpc_threads() == 0
    coordinator.run.restart()
    coordinator.open()
    assert coordinator.stub(NORTH).BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S).resume_offset == 50_000


def unbroken(stream: Iterator[coordinator_pb2.WatchResponse]) -> Iterator[coordinator_pb2.WatchResponse]:
    """A stream's events until it ends or breaks."""
    try:
        yield from stream
    except grpc.RpcError as fault:
        if fault.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise


def test_party_that_breaks_off_at_the_last_event_has_heard_it(open_coordinator: Opens) -> None:
    """As every party does: the coordinator need not wait for it once more."""
    coordinator = open_coordinator()
    join_all(coordinator)
    coordinator.run.run.fail("site/west", "fire")
    last = coordinator.run.run.log.last_sequence()
    for site in SITES:
        stub = coordinator.stub(site_party(site))
        assert told(read(stub, 1, after=last - 1)[-1]) == "failed"
    assert coordinator.service.seen_by(last) == {f"site/{site}" for site in SITES}
    assert coordinator.service.seen_by(last + 1) == set()


def test_who_an_envelope_is_left_for_hears_of_it_once(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    join_all(coordinator)
    request = coordinator_pb2.PutSealedRequest(
        recipient=SOUTH.label, kind=coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET, envelope=b"sealed"
    )
    for _ in range(2):
        coordinator.stub(NORTH).PutSealed(request, timeout=DEADLINE_S)
    coordinator.run.run.fail(WEST.label, "fire")
    heard = {site: [told(event) for event in coordinator.stub(site).Watch(EVERYTHING)] for site in (SOUTH, WEST)}
    assert heard[SOUTH] == ["joined site/south", "plan_made", "setup", "envelope_left", "failed"]
    assert heard[WEST] == ["joined site/west", "plan_made", "setup", "failed"]


def test_an_envelope_is_had_as_it_was_left_until_the_run_has_failed(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    join_all(coordinator)
    coordinator.run.run.put_sealed(NORTH, sealed_for(SOUTH.label))
    (left,) = coordinator.stub(SOUTH).GetSealed(coordinator_pb2.GetSealedRequest(), timeout=DEADLINE_S).envelopes
    assert (left.sender, left.envelope) == (NORTH.label, b"sealed")
    coordinator.run.run.fail(WEST.label, "fire")
    with refused_call(ErrorCode.RUN_FAILED, "site/west: fire"):
        coordinator.stub(SOUTH).GetSealed(coordinator_pb2.GetSealedRequest(), timeout=DEADLINE_S)
